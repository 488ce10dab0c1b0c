package import CairnBase
package import CairnTensor

/// Writes a pickle of protocol 2, opcode by opcode, for Python's `pickle` and for `torch.load` with `weights_only`.
///
/// Each call pushes one thing on the unpickler's stack or joins what is there; containers are filled between
/// ``mark()`` and ``tuple()``, ``list()`` or ``dictionary()``. Only opcodes that PyTorch's restricted unpickler knows
/// are used. Source: the opcodes of Python 3.14's `pickletools`.
package struct PickleWriter {
    /// Something that can be pushed again: the same object to Python, not an equal one.
    package struct Memo: Sendable, Hashable {
        fileprivate let number: UInt32
    }

    /// The deepest nesting of values that is written.
    private static let maximumDepth = 256

    private var bytes: [UInt8] = [0x80, 2]
    private var memoCount: UInt32 = 0
    private var globals: [PickleGraph.Global: Memo] = [:]

    package init() {}

    /// The pickle: what is on the stack is the result.
    package consuming func finish() -> [UInt8] { bytes + [UInt8(ascii: ".")] }

    // MARK: Scalars

    package mutating func none() { bytes.append(UInt8(ascii: "N")) }

    package mutating func bool(_ value: Bool) { bytes.append(value ? 0x88 : 0x89) }

    package mutating func integer(_ value: Int) {
        if let value = UInt8(exactly: value) {
            bytes += [UInt8(ascii: "K"), value]
        } else if let value = UInt16(exactly: value) {
            bytes.append(UInt8(ascii: "M"))
            bytes.append(littleEndian: value)
        } else if let value = Int32(exactly: value) {
            bytes.append(UInt8(ascii: "J"))
            bytes.append(littleEndian: UInt32(bitPattern: value))
        } else {
            bytes += [0x8A, 8]
            bytes.append(littleEndian: UInt64(bitPattern: Int64(value)))
        }
    }

    package mutating func integer(_ value: UInt64) {
        if let value = Int(exactly: value) { return integer(value) }
        // A ninth byte keeps the number positive.
        bytes += [0x8A, 9]
        bytes.append(littleEndian: value)
        bytes.append(0)
    }

    /// An integer of any size in two's complement.
    ///
    /// - Throws: ``CairnError/Code/unsupported`` for one that PyTorch's restricted unpickler does not read.
    package mutating func integer(littleEndian value: [UInt8]) throws(CairnError) {
        guard let count = UInt8(exactly: value.count) else {
            throw CairnError(
                .unsupported, "an integer is too large for files of PyTorch",
                .init(expected: "at most 255 bytes", found: "\(value.count)", advice: "leave it out by --exclude"))
        }
        bytes += [0x8A, count]
        bytes += value
    }

    package mutating func double(_ value: Double) {
        bytes.append(UInt8(ascii: "G"))
        withUnsafeBytes(of: value.bitPattern.bigEndian) { bytes.append(contentsOf: $0) }
    }

    /// - Throws: ``CairnError/Code/unsupported`` for text that protocol 2 cannot hold: 4 GiB and more.
    package mutating func string(_ text: String) throws(CairnError) {
        guard let byteCount = UInt32(exactly: text.utf8.count) else {
            throw CairnError(.unsupported, "a text is too long for a pickle", .init(found: "\(text.utf8.count) bytes"))
        }
        bytes.append(UInt8(ascii: "X"))
        bytes.append(littleEndian: byteCount)
        bytes.append(contentsOf: text.utf8)
    }

    /// Bytes as Python 3 writes them in protocol 2: as Latin-1 text that is to be encoded.
    package mutating func bytes(_ value: [UInt8]) throws(CairnError) {
        global("_codecs", "encode")
        mark()
        var text = String.UnicodeScalarView()
        for byte in value { text.append(Unicode.Scalar(byte)) }
        try string(String(text))
        try string("latin1")
        tuple()
        reduce()
    }

    // MARK: Containers

    package mutating func mark() { bytes.append(UInt8(ascii: "(")) }

    /// Joins everything above the last mark to a tuple.
    package mutating func tuple() { bytes.append(UInt8(ascii: "t")) }

    /// Appends everything above the last mark to the list, or to the object, below it.
    package mutating func appendAll() { bytes.append(UInt8(ascii: "e")) }

    /// Sets the keys and values above the last mark in the dictionary, or in the object, below it.
    package mutating func setAll() { bytes.append(UInt8(ascii: "u")) }

    package mutating func emptyTuple() { bytes.append(UInt8(ascii: ")")) }

    package mutating func emptyList() { bytes.append(UInt8(ascii: "]")) }

    package mutating func emptyDictionary() { bytes.append(UInt8(ascii: "}")) }

    /// A tuple of integers.
    package mutating func tuple(_ values: some Sequence<Int>) {
        mark()
        for value in values { integer(value) }
        tuple()
    }

    /// A list whose elements `body` pushes.
    package mutating func list<E: Error>(_ body: (inout PickleWriter) throws(E) -> Void) throws(E) {
        emptyList()
        mark()
        try body(&self)
        appendAll()
    }

    /// A dictionary whose keys and values `body` pushes in turn.
    package mutating func dictionary<E: Error>(_ body: (inout PickleWriter) throws(E) -> Void) throws(E) {
        emptyDictionary()
        mark()
        try body(&self)
        setAll()
    }

    // MARK: Objects

    /// A class or function by name.
    ///
    /// Names are ASCII without line ends: they are ours, never a file's.
    package mutating func global(_ module: String, _ name: String) {
        let global = PickleGraph.Global(module: module, name: name)
        if let memo = globals[global] { return recall(memo) }
        precondition(global.path.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F }, "the name of a class is plain text")
        bytes.append(UInt8(ascii: "c"))
        bytes += Array("\(module)\n\(name)\n".utf8)
        globals[global] = remember()
    }

    /// Calls what is below the tuple on top with it.
    package mutating func reduce() { bytes.append(UInt8(ascii: "R")) }

    /// Makes an object of the class below the tuple on top, without calling its initialiser.
    package mutating func newObject() { bytes.append(0x81) }

    /// Sets the state of the object below the top to the top.
    package mutating func build() { bytes.append(UInt8(ascii: "b")) }

    /// Makes what the reader supplies for the identification on top.
    package mutating func persistent() { bytes.append(UInt8(ascii: "Q")) }

    /// Notes the top, so that it can be pushed again.
    package mutating func remember() -> Memo {
        let memo = Memo(number: memoCount)
        memoCount += 1
        if let number = UInt8(exactly: memo.number) {
            bytes += [UInt8(ascii: "q"), number]
        } else {
            bytes.append(UInt8(ascii: "r"))
            bytes.append(littleEndian: memo.number)
        }
        return memo
    }

    /// Pushes what was noted.
    package mutating func recall(_ memo: Memo) {
        if let number = UInt8(exactly: memo.number) {
            bytes += [UInt8(ascii: "h"), number]
        } else {
            bytes.append(UInt8(ascii: "j"))
            bytes.append(littleEndian: memo.number)
        }
    }

    // MARK: Values

    /// A value of a checkpoint: dictionaries sorted by their keys.
    ///
    /// - Throws: ``CairnError/Code/unsupported`` for values that are nested too deeply.
    package mutating func value(_ value: Value) throws(CairnError) { try write(value, depth: 0) }

    private mutating func write(_ value: Value, depth: Int) throws(CairnError) {
        guard depth <= Self.maximumDepth else {
            throw CairnError(.unsupported, "a value is nested deeper than \(Self.maximumDepth) levels")
        }
        switch value {
        case .null: none()
        case .bool(let value): bool(value)
        case .integer(let value): integer(Int(value))
        case .unsigned(let value): integer(value)
        case .double(let value): double(value)
        case .string(let value): try string(value)
        case .bytes(let value): try bytes(value)
        case .list(let values):
            emptyList()
            mark()
            for value in values { try write(value, depth: depth + 1) }
            appendAll()
        case .dictionary(let values):
            emptyDictionary()
            mark()
            for (key, value) in values.sorted(by: { ExactString($0.key) < ExactString($1.key) }) {
                try string(key)
                try write(value, depth: depth + 1)
            }
            setAll()
        }
    }
}
