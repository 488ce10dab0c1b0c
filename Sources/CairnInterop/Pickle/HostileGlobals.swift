/// What no checkpoint has a reason to call.
///
/// Nothing is executed, so none of it could do harm here; but a file that asks for it is an attack on anyone who loads it
/// elsewhere, and is refused rather than shown.
enum HostileGlobals {
    /// Packages of Python's library, with all that is in them.
    private static let packages: Set<String> = [
        "os", "importlib", "ctypes", "pip", "urllib", "requests", "http", "multiprocessing", "asyncio",
    ]
    /// Its modules that are one file: what is called so and has parts is another's.
    private static let modules: Set<String> = [
        "posix", "posixpath", "nt", "ntpath", "sys", "subprocess", "shutil", "socket", "runpy", "pty", "webbrowser",
        "code", "codeop", "commands", "pdb", "bdb", "timeit", "cProfile", "profile", "trace", "marshal", "pickle",
        "_pickle", "cPickle", "ftplib", "smtplib", "signal", "threading", "_thread", "thread", "operator",
        "_operator", "platform", "tempfile", "zipimport", "pydoc", "imp", "shelve",
    ]
    /// What of all those only makes data: numbers with names, records, a key to look something up by.
    private static let harmless: Set<String> = [
        "operator.itemgetter", "_operator.itemgetter", "operator.attrgetter", "_operator.attrgetter",
        "signal.Signals", "signal.Handlers", "platform.uname_result", "posix.uname_result", "os.stat_result",
        "posix.stat_result", "os.terminal_size", "posix.terminal_size", "http.HTTPStatus", "http.HTTPMethod",
        "socket.AddressFamily", "socket.SocketKind", "urllib.parse.ParseResult", "urllib.parse.SplitResult",
    ]
    /// Functions elsewhere that call what they are given, or read another pickle.
    private static let runners: Set<String> = [
        "functools.reduce", "numpy.load", "numpy.testing._private.utils.runstring", "numpy.testing.utils.runstring",
        "torch.load", "torch.hub.load", "torch.serialization.load", "torch.jit.unsupported_tensor_ops.execWrapper",
        "dill.load", "dill.loads", "dill._dill.load", "dill._dill.loads", "cloudpickle.load", "cloudpickle.loads",
        "joblib.load", "pandas.read_pickle", "types.FunctionType",
    ]
    /// What of Python's own functions only makes data.
    private static let dataBuiltins: Set<String> = [
        "set", "frozenset", "bytearray", "bytes", "complex", "list", "dict", "tuple", "int", "long", "float", "str",
        "unicode", "bool", "object", "slice", "range", "xrange", "Ellipsis", "NotImplemented", "type", "iter",
        "enumerate", "zip", "reversed", "staticmethod", "classmethod", "property",
    ]
    private static let exceptionEnds = ["Error", "Exception", "ExceptionGroup", "Warning", "Exit", "Interrupt", "Iteration"]

    static func contains(_ global: PickleGraph.Global) -> Bool {
        if harmless.contains(global.path) { return false }
        // A name with dots continues from thing to thing, as `torch` and `os.system` do.
        let names = global.name.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
        if names.count > 1 {
            if names.contains(where: { $0.hasPrefix("__") }) { return true }
            if names.dropLast().contains(where: { packages.contains($0) || modules.contains($0) }),
                !harmless.contains(names.suffix(2).joined(separator: "."))
            { return true }
        }
        if global.isBuiltin {
            guard let first = names.first else { return true }
            return !dataBuiltins.contains(first) && !exceptionEnds.contains { first.hasSuffix($0) }
        }
        let top = global.module.split(separator: ".").first.map(String.init) ?? ""
        if packages.contains(top) {
            // A member of what is harmless, as one of an enumeration.
            return !(names.count > 1 && harmless.contains(global.module + "." + names[0]))
        }
        if modules.contains(global.module) {
            return !(names.count > 1 && harmless.contains(global.module + "." + names[0]))
        }
        return runners.contains(global.path)
    }
}
