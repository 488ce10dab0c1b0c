package import CairnBase

/// Reads a pickle of any protocol from 0 to 5 into a ``PickleGraph``.
///
/// Source: the opcodes of Python 3.14's `pickletools`. Extension codes and out-of-band buffers, which no file can hold
/// by itself, are refused; so are calls to what ``HostileGlobals`` lists and calls to anything that has no name. What
/// `getattr` would return is a name or an object like any other, and is not asked for.
package struct PickleInterpreter {
    typealias Reference = PickleGraph.Reference
    typealias Node = PickleGraph.Node

    /// The pickle's bytes; several may follow each other.
    let bytes: [UInt8]
    /// Where the next opcode is.
    package internal(set) var position: Int
    let limits: PickleLimits
    private let file: String
    private let fileOffset: Int
    /// Whether calls that no checkpoint makes end the reading.
    let refusesCalls: Bool

    var graph = PickleGraph(nodes: [], globals: [], objects: [], root: Reference(index: 0))
    var stack: [Reference] = []
    /// The heights of the stack where marks are.
    var marks: [Int] = []
    var memo: [Int: Reference] = [:]
    private var globalPositions: [PickleGraph.Global: Int32] = [:]
    private var opcodeOffset = 0

    /// - Parameters:
    ///   - file: What the bytes are of, for messages.
    ///   - fileOffset: Where they begin in it.
    package init(
        _ bytes: [UInt8], at position: Int = 0, limits: PickleLimits = PickleLimits(), file: String,
        fileOffset: Int = 0, refusesCalls: Bool = true
    ) {
        self.bytes = bytes
        self.refusesCalls = refusesCalls
        self.position = position
        self.limits = limits
        self.file = file
        self.fileOffset = fileOffset
    }

    /// Reads one pickle, from ``position`` to its end.
    ///
    /// - Throws: ``CairnError/Code/malformed``, or ``CairnError/Code/unsupported`` for what is refused; both name file
    ///   and offset.
    package static func read(
        _ bytes: [UInt8], file: String, fileOffset: Int = 0, limits: PickleLimits = PickleLimits()
    ) throws(CairnError) -> PickleGraph {
        var interpreter = PickleInterpreter(bytes, limits: limits, file: file, fileOffset: fileOffset)
        return try interpreter.next()
    }

    /// Reads the pickle at ``position``, which then is behind it.
    package mutating func next() throws(CairnError) -> PickleGraph {
        guard bytes.count - position <= limits.byteCount else {
            throw failure(.unsupported, "the pickle is too long", found: "\(bytes.count) bytes")
        }
        begin()
        let start = position
        while true {
            opcodeOffset = position
            let opcode = try byte()
            if opcode == UInt8(ascii: ".") { break }
            try execute(opcode)
        }
        graph.root = try pop()
        graph.byteCount = position - start
        return graph
    }

    private mutating func begin() {
        graph = PickleGraph(nodes: [.none, .bool(false), .bool(true)], globals: [], objects: [], root: Self.noneNode)
        stack = []
        marks = []
        memo = [:]
        globalPositions = [:]
    }

    /// Whether a file that begins with these bytes may be a pickle of protocol 0 or 1, which does not say that it is one.
    ///
    /// Such a pickle begins with a container, a mark or a name; what follows must be opcodes that make sense, up to the
    /// end of the bytes or of the pickle.
    package static func isPlausible(_ beginning: [UInt8]) -> Bool {
        guard let first = beginning.first, "(c}])".utf8.contains(first) else { return false }
        var interpreter = PickleInterpreter(beginning, file: "", refusesCalls: false)
        interpreter.begin()
        do throws(CairnError) {
            while interpreter.position < beginning.count {
                let opcode = try interpreter.byte()
                if opcode == UInt8(ascii: ".") {
                    return interpreter.stack.count == 1 && interpreter.hasPlausibleNames
                }
                try interpreter.execute(opcode)
            }
        } catch {
            guard error.code == .incomplete else { return false }
        }
        // A beginning, or a pickle that was cut short: something was put aside to be named again.
        return !interpreter.memo.isEmpty && interpreter.hasPlausibleNames
    }

    private var hasPlausibleNames: Bool {
        graph.globals.allSatisfy { global in
            !global.name.isEmpty
                && global.path.utf8.allSatisfy { byte in
                    byte == UInt8(ascii: ".") || byte == UInt8(ascii: "_") || byte >= 0x80
                        || (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
                }
        }
    }

    static let noneNode = Reference(index: 0)
    static let falseNode = Reference(index: 1)
    static let trueNode = Reference(index: 2)

    // MARK: The stack

    mutating func push(_ node: Node) throws(CairnError) {
        stack.append(try make(node))
    }

    mutating func make(_ node: Node) throws(CairnError) -> Reference {
        guard graph.nodes.count < limits.nodeCount else {
            throw failure(.unsupported, "the pickle makes too many things", found: "\(graph.nodes.count)")
        }
        graph.nodes.append(node)
        return Reference(index: Int32(graph.nodes.count - 1))
    }

    mutating func pop() throws(CairnError) -> Reference {
        guard stack.count > (marks.last ?? 0), let top = stack.popLast() else {
            throw failure(.malformed, "the pickle takes what is not there")
        }
        return top
    }

    func top() throws(CairnError) -> Reference {
        guard stack.count > (marks.last ?? 0), let top = stack.last else {
            throw failure(.malformed, "the pickle takes what is not there")
        }
        return top
    }

    /// Everything above the last mark, which goes.
    mutating func popToMark() throws(CairnError) -> [Reference] {
        guard let height = marks.popLast() else { throw failure(.malformed, "the pickle has no mark to go back to") }
        let taken = Array(stack[height...])
        stack.removeLast(stack.count - height)
        return taken
    }

    mutating func pushGlobal(module: String, name: String) throws(CairnError) {
        let global = PickleGraph.Global(module: module, name: name)
        if let position = globalPositions[global] {
            try push(.global(position))
            return
        }
        graph.globals.append(global)
        let position = Int32(graph.globals.count - 1)
        globalPositions[global] = position
        try push(.global(position))
    }

    // MARK: The bytes

    mutating func byte() throws(CairnError) -> UInt8 {
        guard position < bytes.count else { throw failure(.incomplete, "the pickle has no end") }
        defer { position += 1 }
        return bytes[position]
    }

    mutating func take(_ count: Int) throws(CairnError) -> ArraySlice<UInt8> {
        guard count >= 0, count <= bytes.count - position else {
            throw failure(.incomplete, "the pickle ends within something", found: "\(count) bytes to come")
        }
        defer { position += count }
        return bytes[position..<position + count]
    }

    /// An unsigned little-endian number; one that is no `Int` is longer than any file.
    mutating func count(byteCount: Int) throws(CairnError) -> Int {
        let value = try take(byteCount).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        guard let count = Int(exactly: value) else {
            throw failure(.malformed, "a length in the pickle is out of range", found: "\(value)")
        }
        return count
    }

    /// The bytes up to the next newline, which is skipped.
    mutating func line() throws(CairnError) -> ArraySlice<UInt8> {
        guard let end = bytes[position...].firstIndex(of: UInt8(ascii: "\n")) else {
            throw failure(.incomplete, "the pickle ends within a line")
        }
        defer { position = end + 1 }
        return bytes[position..<end]
    }

    func text(_ bytes: ArraySlice<UInt8>) throws(CairnError) -> String {
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw failure(.malformed, "text in the pickle is not UTF-8")
        }
        return text
    }

    func failure(
        _ code: CairnError.Code, _ message: String, found: String? = nil, advice: String? = nil
    ) -> CairnError {
        CairnError(
            code, message, .init(file: file, offset: fileOffset + opcodeOffset, found: found, advice: advice))
    }
}

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
            {
                return true
            }
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
