/// How the files of a protected set are, and how much more of them may be lost.
public struct ProtectionReport: Sendable {
    /// How a file is.
    public enum State: String, Sendable, Hashable {
        case intact
        /// It is not there.
        case lost
        /// It ends too early.
        case short
        /// It goes on behind what was protected.
        case long
        /// It has its length, and some of its bytes are not those that were protected, or cannot be read.
        case damaged
    }

    /// One file.
    public struct File: Sendable, Hashable {
        /// Where it is.
        public var location: String
        public var isParity: Bool
        public var state: State
        /// The length that it had when it was protected, in bytes.
        public var byteCount: Int
        /// The length that it has; `nil` where it is lost.
        public var foundByteCount: Int?
        /// Where its blocks are damaged, as far as they were read.
        public var damagedRanges: [Range<Int>]
        /// Whether parity brings it back.
        public var isRepairable: Bool
    }

    /// The files of data, then those of parity.
    public internal(set) var files: [File]
    /// How many columns the data is arranged in.
    public internal(set) var columnCount: Int
    /// How many parity files there are when all are there.
    public internal(set) var parityCount: Int
    /// Whether all bytes were read.
    public internal(set) var isDeep: Bool
    /// The bytes that were read.
    public internal(set) var byteCount: Int
    /// How many more columns, or parity files, may be lost: the parity, less the most that a stripe has lost. Below 0 some stripe
    /// is beyond repair.
    public internal(set) var remainingLosses: Int

    /// Whether everything is as it was protected, parity included.
    public var isIntact: Bool { files.allSatisfy { $0.state == .intact } }

    /// Whether every file is intact or can be brought back.
    public var isRepairable: Bool { files.allSatisfy(\.isRepairable) }
}
