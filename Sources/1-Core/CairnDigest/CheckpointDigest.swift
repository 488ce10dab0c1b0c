import COpenSSL
package import CairnBase
public import CairnCheckpoint
public import CairnTensor
import Synchronization

/// What a checkpoint holds, whatever its format and layout: the name, type, shape and SHA-256 of every whole tensor,
/// and every value.
///
/// The same state has the same digest in every format that can hold it.
public struct CheckpointDigest: Sendable, Hashable {
    /// One tensor.
    public struct TensorDigest: Sendable, Hashable {
        /// The fully-qualified name.
        public var name: String
        /// The type of the elements.
        public var scalarType: ScalarType
        /// The shape of the whole tensor.
        public var shape: Shape
        /// SHA-256 of the elements, contiguous, row-major and little-endian, as 64 hexadecimal digits.
        public var sha256: String
    }

    /// A value that is not a list and no dictionary, and how to get to it.
    public struct Leaf: Sendable, Hashable {
        /// The value's name, before it the place of the rank that had it alone, if one had; then the keys and places on the way
        /// down. Keys that spell an integer are integers: not every format keeps the two apart.
        public var path: [Value]
        /// The value.
        public var value: Value
    }

    /// The format's short name.
    public var format: String
    /// The tensors, sorted by the bytes of their names; tied ones each under its name.
    public var tensors: [TensorDigest]
    /// The values, sorted by name, behind them those of single ranks in the order of ranks; dictionaries by the bytes of their
    /// keys, lists in order.
    public var objects: [Leaf]

    /// Reads all of a checkpoint.
    ///
    /// - Parameter bufferByteCount: How much each thread reads at once, in bytes. Several tensors are read and hashed at a time.
    /// - Throws: The reader's errors.
    public init(of reader: any CheckpointReader, bufferByteCount: Int = 4 << 20) throws {
        format = reader.format
        let all = reader.tensors
        // The largest first, so that no thread begins with one when the others are done.
        let stored = all.filter { $0.tiedTo == nil }.sorted { $0.byteCount > $1.byteCount }
        let digests = Mutex<[ExactString: String]>([:])
        try ThreadPool.shared.forEach(stored.count) { index in
            let digest = try Self.sha256(of: stored[index], in: reader, bufferByteCount: bufferByteCount)
            digests.withLock { $0[ExactString(stored[index].name)] = digest }
        }
        let found = digests.withLock { $0 }
        tensors = []
        for tensor in all {
            let known = found[ExactString(tensor.tiedTo ?? tensor.name)]
            let digest = try known ?? Self.sha256(of: tensor, in: reader, bufferByteCount: bufferByteCount)
            tensors.append(
                TensorDigest(name: tensor.name, scalarType: tensor.scalarType, shape: tensor.shape, sha256: digest))
        }
        objects = []
        for named in reader.values { Self.addLeaves(of: named.value, at: [Self.component(named.name)], to: &objects) }
        for of in try reader.rankValues() {
            for named in of.values {
                Self.addLeaves(of: named.value, at: [.string(of.location), Self.component(named.name)], to: &objects)
            }
        }
    }

    /// SHA-256 of one tensor's elements, as 64 hexadecimal digits.
    ///
    /// - Parameter progress: Called with the number of bytes just read; throwing stops.
    package static func sha256(
        of tensor: TensorDescription, in reader: any CheckpointReader, bufferByteCount: Int = 4 << 20,
        progress: (Int) throws -> Void = { _ in }
    ) throws -> String {
        var hash = try SHA256()
        var buffer: [UInt8] = []
        for slab in SlabSequence(of: tensor, byteLimit: bufferByteCount) {
            let byteCount = try Tensor.byteCount(tensor.scalarType, slab.shape)
            if buffer.count < byteCount { buffer = [UInt8](repeating: 0, count: byteCount) }
            var span = buffer.mutableSpan
            var bytes = span.mutableBytes
            var part = bytes.part(0..<byteCount)
            try reader.read(tensor.name, region: slab, into: &part)
            try hash.update(buffer.span.bytes.extracting(0..<byteCount))
            try progress(byteCount)
        }
        return Hexadecimal.encode(try hash.finish())
    }

    /// SHA-256 of a value, the same for all values that have the same leaves in ``objects``.
    package static func sha256(of value: Value) throws(CairnError) -> String {
        var leaves: [Leaf] = []
        addLeaves(of: value, at: [], to: &leaves)
        var writer = JSONWriter()
        do throws(JSONError) {
            try write(leaves, to: &writer)
        } catch {
            throw CairnError(.invalidArgument, error.message)
        }
        return Hexadecimal.encode(try SHA256.digest(of: writer.finish().span.bytes))
    }

    private static func component(_ key: String) -> Value {
        guard let number = Int64(key), String(number).utf8.elementsEqual(key.utf8) else { return .string(key) }
        return .integer(number)
    }

    private static func addLeaves(of value: Value, at path: [Value], to leaves: inout [Leaf]) {
        switch value {
        case .list(let values):
            for (index, value) in values.enumerated() {
                addLeaves(of: value, at: path + [.integer(Int64(index))], to: &leaves)
            }
        case .dictionary(let values):
            for key in values.keys.sorted(by: { ExactString($0) < ExactString($1) }) {
                if let value = values[key] { addLeaves(of: value, at: path + [component(key)], to: &leaves) }
            }
        default: leaves.append(Leaf(path: path, value: value))
        }
    }
}

extension CheckpointDigest {
    /// The digest as a JSON document of the schema `cairn-digest/1`, without a newline at the end.
    ///
    /// A leaf that JSON has no notation for is an object with one key, as in the files: `$f64` or `$bytes`.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` for a value that JSON cannot express.
    public func json() throws -> [UInt8] {
        var writer = JSONWriter(style: .pretty(maximumInlineWidth: 240))
        writer.beginObject()
        writer.key("schema")
        writer.write("cairn-digest/1")
        writer.key("format")
        writer.write(format)
        writer.key("tensors")
        writer.beginArray()
        for tensor in tensors {
            writer.beginObject()
            writer.key("fqn")
            writer.write(tensor.name)
            writer.key("dtype")
            writer.write(tensor.scalarType.rawValue)
            writer.key("shape")
            writer.beginArray()
            for extent in tensor.shape.extents { writer.write(extent) }
            writer.endArray()
            writer.key("sha256")
            writer.write(tensor.sha256)
            writer.endObject()
        }
        writer.endArray()
        writer.key("objects")
        try Self.write(objects, to: &writer)
        writer.endObject()
        return writer.finish()
    }
}

extension CheckpointDigest {
    private static func write(_ leaves: [Leaf], to writer: inout JSONWriter) throws(JSONError) {
        func json(_ value: Value) throws(JSONError) -> JSONValue {
            do throws(CairnError) {
                return try ValueCoding.json(value)
            } catch {
                throw JSONError(error.message)
            }
        }
        writer.beginArray()
        for leaf in leaves {
            writer.beginObject()
            writer.key("path")
            writer.beginArray()
            for component in leaf.path { try writer.write(json(component)) }
            writer.endArray()
            writer.key("value")
            // An integer is an integer, whichever type held it.
            if case .unsigned(let value) = leaf.value {
                writer.write(value)
            } else {
                try writer.write(json(leaf.value))
            }
            writer.endObject()
        }
        writer.endArray()
    }
}

/// SHA-256 of bytes that come in pieces, by OpenSSL's libcrypto, which uses the processor's instructions for it.
package struct SHA256: ~Copyable {
    private let context: OpaquePointer

    /// Begins with no bytes.
    ///
    /// - Throws: ``CairnError/Code/unsupported`` when the library refuses, for instance because of a policy.
    package init() throws(CairnError) {
        guard let context = EVP_MD_CTX_new() else { throw Self.refusal }
        guard EVP_DigestInit_ex(context, EVP_sha256(), nil) == 1 else {
            EVP_MD_CTX_free(context)
            throw Self.refusal
        }
        self.context = context
    }

    deinit { EVP_MD_CTX_free(context) }

    /// Adds the next bytes.
    package mutating func update(_ bytes: RawSpan) throws(CairnError) {
        let result = bytes.withUnsafeBytes { EVP_DigestUpdate(context, $0.baseAddress, $0.count) }
        guard result == 1 else { throw Self.refusal }
    }

    /// The same bytes so far, to go on in another way.
    package borrowing func copy() throws(CairnError) -> SHA256 {
        let other = try SHA256()
        guard EVP_MD_CTX_copy_ex(other.context, context) == 1 else { throw Self.refusal }
        return other
    }

    /// The digest of all bytes: 32 bytes.
    package consuming func finish() throws(CairnError) -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: 32)
        guard EVP_DigestFinal_ex(context, &digest, nil) == 1 else { throw Self.refusal }
        return digest
    }

    /// The digest of bytes that are there at once.
    package static func digest(of bytes: RawSpan) throws(CairnError) -> [UInt8] {
        var hash = try SHA256()
        try hash.update(bytes)
        return try hash.finish()
    }

    private static var refusal: CairnError {
        CairnError(.unsupported, "the system's OpenSSL does not compute SHA-256")
    }
}

/// SHA-256 of bytes that come in pieces, for whoever keeps it from one piece to the next.
package final class RunningSHA256 {
    private var hash: SHA256

    /// Begins with no bytes.
    package init() throws(CairnError) { hash = try SHA256() }

    /// Begins with the bytes of another.
    package init(copying other: RunningSHA256) throws(CairnError) { hash = try other.hash.copy() }

    /// Adds the next bytes.
    package func update(_ bytes: RawSpan) throws(CairnError) { try hash.update(bytes) }

    /// The digest of the bytes so far, as 64 hexadecimal digits.
    package func digest() throws(CairnError) -> String { Hexadecimal.encode(try hash.copy().finish()) }
}
