/// What went wrong, where, and what to do about it.
///
/// Branch on ``code``; show ``description`` to a person. Every error that comes from a file names the file, and the
/// tensor, the offset, the expected and the found value where they are known.
public struct CairnError: Error, Sendable {
    /// The kind of failure: a set that may grow, so a `switch` over it needs a default.
    public struct Code: Sendable, Hashable, CustomStringConvertible {
        private enum Value: String, CaseIterable {
            case notFound, alreadyExists, inputOutput, noSpace, corrupted, malformed, incomplete
            case unsupported, mismatch, invalidArgument, cancelled
            case nothingUsable, accessDenied, notADirectory
        }

        private let value: Value

        private init(_ value: Value) { self.value = value }

        /// A file, checkpoint, tensor or value that was asked for does not exist.
        public static let notFound = Code(.notFound)
        /// Something that must not be overwritten is already there.
        public static let alreadyExists = Code(.alreadyExists)
        /// The operating system or the storage failed a call.
        public static let inputOutput = Code(.inputOutput)
        /// The storage is full, or a quota is used up.
        public static let noSpace = Code(.noSpace)
        /// Bytes differ from their checksum or digest.
        public static let corrupted = Code(.corrupted)
        /// A file does not follow its format.
        public static let malformed = Code(.malformed)
        /// Part of a checkpoint is missing.
        public static let incomplete = Code(.incomplete)
        /// The file is well-formed as far as can be told, but uses something this version cannot handle.
        public static let unsupported = Code(.unsupported)
        /// Two things that must agree (shape, scalar type, save id) do not.
        public static let mismatch = Code(.mismatch)
        /// The caller asked for something that makes no sense.
        public static let invalidArgument = Code(.invalidArgument)
        /// The operation was cancelled.
        public static let cancelled = Code(.cancelled)
        /// There are checkpoints, and none of them can be used: not the same as there being none.
        public static let nothingUsable = Code(.nothingUsable)
        /// Reading or writing there is not allowed: the rights do not suffice, or the file system is read-only.
        public static let accessDenied = Code(.accessDenied)
        /// A file stands where a directory must be, such as at the path of a store.
        public static let notADirectory = Code(.notADirectory)

        /// Whether it says that bytes are not those that were written: changed, cut off or missing.
        package var isDamage: Bool { [.corrupted, .malformed, .incomplete].contains(self) }

        /// Whether it says that what was read is of no use, for whatever reason, and not that it could not be reached.
        package var isUnusable: Bool { isDamage || [.mismatch, .notFound, .unsupported].contains(self) }

        /// Every code there is, in the order of their names.
        package static let all = Value.allCases.map(Code.init).sorted { $0.description < $1.description }

        public var description: String { value.rawValue }

        /// The code with this ``description``, or `nil` if there is none: for errors that come from another process.
        package init?(_ description: String) {
            guard let value = Value(rawValue: description) else { return nil }
            self.value = value
        }
    }

    /// Where it happened. Each part is filled in by whichever layer knows it.
    public struct Context: Sendable, Equatable {
        /// The file or storage key.
        public var file: String?
        /// The fully-qualified name of the tensor or value.
        public var tensor: String?
        /// The offset in the file, in bytes.
        public var offset: Int?
        /// The rank whose part of the work failed.
        public var rank: Int?
        /// What should have been there.
        public var expected: String?
        /// What was there.
        public var found: String?
        /// What the user can do.
        public var advice: String?

        public init(
            file: String? = nil, tensor: String? = nil, offset: Int? = nil, rank: Int? = nil, expected: String? = nil,
            found: String? = nil, advice: String? = nil
        ) {
            self.file = file
            self.tensor = tensor
            self.offset = offset
            self.rank = rank
            self.expected = expected
            self.found = found
            self.advice = advice
        }
    }

    /// The kind of failure.
    public var code: Code
    /// One sentence for a person, without the context.
    public var message: String
    /// Where it happened.
    public var context: Context
    /// The error that led to this one.
    public var cause: (any Error)?

    public init(_ code: Code, _ message: String, _ context: Context = Context(), cause: (any Error)? = nil) {
        self.code = code
        self.message = message
        self.context = context
        self.cause = cause
    }

    /// An error as a ``CairnError``: itself if it is one, else `message` with the error as its cause.
    public init(wrapping error: any Error, _ message: String) {
        self = error as? CairnError ?? CairnError(.inputOutput, message, cause: error)
    }

    /// The same error with the parts of `context` filled in that it did not know yet.
    public func adding(_ outer: Context) -> CairnError {
        var error = self
        error.context.file = context.file ?? outer.file
        error.context.tensor = context.tensor ?? outer.tensor
        error.context.offset = context.offset ?? outer.offset
        error.context.rank = context.rank ?? outer.rank
        error.context.expected = context.expected ?? outer.expected
        error.context.found = context.found ?? outer.found
        error.context.advice = context.advice ?? outer.advice
        return error
    }
}

extension CairnError: CustomStringConvertible {
    /// One line: file, tensor, offset, rank, message, expected and found, advice.
    public var description: String {
        var location: [String] = []
        if let file = context.file { location.append(file) }
        if let tensor = context.tensor { location.append("tensor \"\(tensor)\"") }
        if let offset = context.offset { location.append("offset \(offset)") }
        if let rank = context.rank { location.append("rank \(rank)") }
        var line = location.isEmpty ? message : location.joined(separator: ", ") + ": " + message
        switch (context.expected, context.found) {
        case (let expected?, let found?): line += " (expected \(expected), found \(found))"
        case (let expected?, nil): line += " (expected \(expected))"
        case (nil, let found?): line += " (found \(found))"
        case (nil, nil): break
        }
        if let advice = context.advice { line += "; " + advice }
        if let cause { line += " [\(cause)]" }
        return line
    }
}
