import CairnBase

/// What a pickle may cost and what it may not ask for.
package struct PickleLimits: Sendable {
    /// The most bytes of a pickle.
    package var byteCount = 1 << 30
    /// The most things that a pickle may make; each takes about 24 bytes of memory.
    package var nodeCount = 1 << 26
    /// The most bytes of one integer.
    package var integerByteCount = 1024

    package init() {}

    /// What a pickle may cost that was found compressed: in proportion to what is stored of it.
    init(storedByteCount: Int) {
        byteCount = min(byteCount, max(16 << 20, storedByteCount.multiplied(checked: 64) ?? byteCount))
        nodeCount = min(nodeCount, max(1 << 20, storedByteCount.multiplied(checked: 4) ?? nodeCount))
    }
}

/// What no checkpoint has a reason to call.
///
/// Nothing is executed, so none of it could do harm here; but a file that asks for it is an attack on whoever loads it
/// elsewhere, and is refused rather than shown.
enum HostileGlobals {
    private static let modules: Set<String> = [
        "os", "posix", "posixpath", "nt", "sys", "subprocess", "shutil", "socket", "importlib", "runpy", "ctypes",
        "pty", "webbrowser", "code", "codeop", "commands", "pip", "pdb", "bdb", "timeit", "cProfile", "profile",
        "trace", "marshal", "pickle", "_pickle", "cPickle", "urllib", "requests", "http", "ftplib", "smtplib",
        "signal", "multiprocessing", "asyncio", "threading", "operator", "_operator", "platform", "tempfile",
        "zipimport",
    ]
    /// What of Python's own functions only makes data.
    private static let dataBuiltins: Set<String> = [
        "set", "frozenset", "bytearray", "bytes", "complex", "list", "dict", "tuple", "int", "long", "float", "str",
        "unicode", "bool", "object", "slice", "range", "xrange", "Ellipsis", "NotImplemented",
    ]

    static func contains(_ global: PickleGraph.Global) -> Bool {
        switch global.module {
        case "builtins", "__builtin__": !dataBuiltins.contains(global.name)
        default: modules.contains(global.module.split(separator: ".").first.map(String.init) ?? "")
        }
    }
}
