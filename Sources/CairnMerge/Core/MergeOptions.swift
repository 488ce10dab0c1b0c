public import CairnTensor

/// How a merge computes, whatever its method.
public struct MergeOptions: Sendable {
    /// The precision of sums.
    public enum Accumulation: Sendable, Hashable {
        /// Double where one of a tensor's inputs is, else single.
        case automatic
        case single
        case double
    }

    /// What becomes of tensors whose elements are not real floating-point numbers, and so have no average: integers,
    /// booleans, complex and packed numbers, power-of-two scales.
    public enum OtherTensors: Sendable, Hashable {
        /// The one that all inputs agree on, byte by byte, which is checked as it is read.
        case equal
        /// The first input's.
        case first
        /// The last input's.
        case last
    }

    /// The precision of sums.
    public var accumulation = Accumulation.automatic
    /// The type of the result's floating-point tensors; `nil` for the inputs' own.
    public var outputType: ScalarType?
    /// Whether inputs may have floating-point tensors of different types, the result then having the widest.
    public var promotesTypes = false
    /// What becomes of tensors that have no average.
    public var otherTensors = OtherTensors.equal
    /// Chooses the random elements of DARE, with the tensors' names and nothing else.
    public var seed: UInt64 = 0
    /// Reads inputs from mapped files where that is possible: for many evaluations of one merge after another. Bytes are
    /// then not verified, and count as the process's memory as long as no other process needs it.
    public var mapped = false
    /// How many threads compute, the caller's among them.
    public var concurrency = Int.max
    /// Called before each piece of work, from any thread; throwing stops what is being read.
    public var interruption: @Sendable () throws -> Void = {}
    /// How many bytes of one input a thread works on at a time.
    package var chunkByteCount = 512 << 10

    public init() {}
}
