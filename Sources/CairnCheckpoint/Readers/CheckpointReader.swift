public import CairnBase
public import CairnTensor

/// A checkpoint, whatever it is made of: something that lists tensors and reads regions of them.
///
/// Files of every format are readers, and so is every transformation of another reader, so that a renamed or cast
/// checkpoint costs nothing until it is read. Calls block; make them on a ``ThreadPool``, from several threads if you like.
public protocol CheckpointReader: Sendable {
    /// The format's short name: `cairn`, `safetensors`, …
    var format: String { get }
    /// Where it was read from, for messages.
    var source: String { get }
    /// Every logical tensor, sorted by the bytes of its name, each name once.
    var tensors: [TensorDescription] { get }
    /// The values beside the tensors, sorted by the bytes of their names.
    var values: [NamedValue] { get }
    /// How tensors and values were nested in the state that was saved, where the format keeps that.
    var structure: StateNode? { get }
    /// What reading has changed so far beyond rounding floats: numbers that a conversion made infinite, or others. `nil` where
    /// nothing is converted.
    var losses: [LossNote]? { get }

    /// The values that single ranks of the job that saved had alone, in the order of ranks; those without any are left out.
    ///
    /// They may stand in a file for each rank, whose header is then read.
    ///
    /// - Throws: What a damaged or missing file throws.
    func rankValues() throws(CairnError) -> [RankValues]

    /// Fills `destination` with a region of a tensor, row-major.
    ///
    /// Reads little more of the source than the region needs and verifies whatever checksums cover it.
    ///
    /// - Throws: ``CairnError/Code/notFound`` for an unknown name, ``CairnError/Code/mismatch`` when the region lies
    ///   outside or `destination` has another size, ``CairnError/Code/corrupted`` when a checksum differs.
    func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError)

    /// The tensor over the mapped file, without copying, reading or verifying; `nil` where that cannot be had.
    func mapped(_ name: String) throws(CairnError) -> Tensor?
}

/// A value and its name.
public struct NamedValue: Sendable, Hashable {
    public var name: String
    public var value: Value

    public init(name: String, value: Value) {
        self.name = name
        self.value = value
    }
}

extension CheckpointReader {
    public var structure: StateNode? { nil }

    public var losses: [LossNote]? { nil }

    public func rankValues() throws(CairnError) -> [RankValues] { [] }

    public func mapped(_ name: String) throws(CairnError) -> Tensor? { nil }

    /// The description of a tensor by binary search.
    ///
    /// - Throws: ``CairnError/Code/notFound``.
    public func description(of name: String) throws(CairnError) -> TensorDescription {
        let tensors = self.tensors
        guard let position = tensors.position(of: name) else {
            throw CairnError(.notFound, "the checkpoint has no such tensor", .init(file: source, tensor: name))
        }
        return tensors[position]
    }

    /// A whole tensor, read and verified, in memory of its own.
    ///
    /// - Throws: As ``read(_:region:into:)``.
    public func tensor(_ name: String, pool: BufferPool? = nil) throws -> Tensor {
        let description = try description(of: name)
        _ = try (self as? any LinearReader)?.runByteCount(name)
        return try Tensor(description.scalarType, description.shape, pool: pool) { destination in
            try read(name, region: Region(whole: description.shape), into: &destination)
        }
    }
}
