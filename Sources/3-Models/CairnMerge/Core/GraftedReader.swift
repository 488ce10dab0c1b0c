public import CairnBase
public import CairnCheckpoint
public import CairnTensor

/// A checkpoint with some of its tensors taken from others, as they are read.
///
/// What is taken has the type and shape that it has in the base. A tensor that the base lacks is added. Everything else, the values
/// too, is the base's.
///
/// ```swift
/// let grafted = try GraftedReader(MergeInput(today), taking: [.init(MergeInput(yesterday), ["experts.7.*"])])
/// ```
public struct GraftedReader: CheckpointView {
    /// What is taken of a checkpoint.
    public struct Part: Sendable {
        package var input: MergeInput
        /// `nil` for all that it has.
        package var patterns: [String]?

        /// - Parameter patterns: Of the names of tensors, as ``GlobPattern`` has them.
        public init(_ input: MergeInput, _ patterns: [String]) {
            self.input = input
            self.patterns = patterns
        }

        /// All tensors that a checkpoint of a part has, and no more.
        public init(allOf input: MergeInput) {
            self.input = input
            patterns = nil
        }
    }

    public let base: any CheckpointReader
    public let tensors: [TensorDescription]
    /// What it is made of: the base, and behind it each part, with its patterns and the number of its tensors in the details.
    public let lineage: Lineage
    /// The base, and behind it the parts.
    private let readers: [any CheckpointReader]
    /// From which of the readers a tensor is, parallel to `tensors`.
    private let origins: [Int]

    public var values: [NamedValue] { base.values }
    public var structure: StateNode? { nil }
    /// It is none of the saves that it is made of.
    public var identity: CheckpointIdentity? { nil }
    public var metadata: [NamedValue] { [] }
    public var skippedEntries: [String] { readers.flatMap(\.skippedEntries) }
    public var skippedTensorCount: Int { readers.reduce(0) { $0 + $1.skippedTensorCount } }
    public var losses: [LossNote]? { readers.contains { $0.losses != nil } ? readers.flatMap { $0.losses ?? [] } : nil }

    /// - Throws: ``CairnError/Code/notFound`` for a pattern that fits no tensor of its checkpoint, and for a tensor of the base that
    ///   a pattern fits and its checkpoint lacks; ``CairnError/Code/mismatch`` for one of another type or shape, and where two parts
    ///   take one tensor; ``CairnError/Code/invalidArgument`` for an invalid pattern.
    public init(_ base: MergeInput, taking parts: [Part]) throws(CairnError) {
        self.base = base.reader
        readers = [base.reader] + parts.map(\.input.reader)
        var taken: [ExactString: (tensor: TensorDescription, origin: Int)] = [:]
        var counts: [Int] = []
        for (index, part) in parts.enumerated() {
            let names = try Self.taken(part, from: base.reader)
            counts.append(names.count)
            for tensor in names {
                if let other = taken[ExactString(tensor.name)] {
                    throw CairnError(
                        .mismatch, "two parts take this tensor",
                        .init(
                            file: part.input.reader.source, tensor: tensor.name,
                            found: "also from \(parts[other.origin - 1].input.reader.source)",
                            advice: "make the patterns narrower"))
                }
                taken[ExactString(tensor.name)] = (tensor, index + 1)
            }
        }
        var all = taken
        for tensor in base.reader.tensors where all[ExactString(tensor.name)] == nil {
            all[ExactString(tensor.name)] = (tensor, 0)
        }
        let sorted = all.sorted { $0.key < $1.key }.map(\.value)
        origins = sorted.map(\.origin)
        tensors = sorted.map { tensor, origin in
            // One tensor under two names stays one where both come from one checkpoint.
            var tensor = tensor
            if let target = tensor.tiedTo, all[ExactString(target)]?.origin != origin { tensor.tiedTo = nil }
            return tensor
        }
        var details: [Value] = []
        for (part, count) in zip(parts, counts) {
            let patterns = (part.patterns ?? ["*"]).map { Value.string($0) }
            details.append(.dictionary(["patterns": .list(patterns), "tensors": .integer(Int64(count))]))
        }
        lineage = Lineage(
            operation: "graft", parents: [base.parent] + parts.map(\.input.parent), details: ["parts": .list(details)])
    }

    private static func taken(
        _ part: Part, from base: any CheckpointReader
    ) throws(CairnError) -> [TensorDescription] {
        let source = part.input.reader
        let taken = try part.patterns.map { texts throws(CairnError) in try Self.fitting(texts, source, base) } ?? source.tensors
        for found in taken {
            guard let tensor = base.tensors.position(of: found.name).map({ base.tensors[$0] }) else { continue }
            guard found.scalarType == tensor.scalarType, found.shape == tensor.shape else {
                throw CairnError(
                    .mismatch, "the tensor has another type or shape than the base's",
                    .init(
                        file: source.source, tensor: tensor.name, expected: "\(tensor.scalarType)\(tensor.shape)",
                        found: "\(found.scalarType)\(found.shape)"))
            }
        }
        let names = Set(taken.map { ExactString($0.name) })
        if let torn = QuantisedWeights(in: source.tensors).lossNote(where: { names.contains(ExactString($0)) }) {
            throw CairnError(
                .unsupported, torn, .init(file: source.source, advice: "take the codes together with their scales"))
        }
        return taken
    }

    /// The tensors of a checkpoint that patterns fit, which must have all of the base that they fit.
    private static func fitting(
        _ texts: [String], _ source: any CheckpointReader, _ base: any CheckpointReader
    ) throws(CairnError) -> [TensorDescription] {
        var patterns: [GlobPattern] = []
        for text in texts {
            let pattern = try GlobPattern(text)
            guard source.tensors.contains(where: { pattern.matches($0.name) }) else {
                throw CairnError(
                    .notFound, "a pattern fits no tensor of the checkpoint",
                    .init(file: source.source, found: text.debugDescription, advice: "list the names and correct it"))
            }
            patterns.append(pattern)
        }
        for tensor in base.tensors where patterns.contains(where: { $0.matches(tensor.name) }) {
            guard source.tensors.position(of: tensor.name) != nil else {
                throw CairnError(
                    .notFound, "the pattern fits a tensor of the base that is not there to be taken",
                    .init(file: source.source, tensor: tensor.name, advice: "make the pattern narrower"))
            }
        }
        return source.tensors.filter { tensor in patterns.contains { $0.matches(tensor.name) } }
    }

    /// The reader that a tensor is from.
    private func reader(of name: String) throws(CairnError) -> any CheckpointReader {
        readers[origins[try tensors.requiredPosition(of: name, in: source)]]
    }

    public func baseName(of name: String) throws(CairnError) -> String? {
        origins[try tensors.requiredPosition(of: name, in: source)] == 0 ? name : nil
    }

    public func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try reader(of: name).read(name, region: region, into: &destination)
    }

    public func read(_ requests: [RegionRequest], options: BulkReadOptions) throws {
        var byReader = [[RegionRequest]](repeating: [], count: readers.count)
        for request in requests {
            byReader[origins[try tensors.requiredPosition(of: request.name, in: source)]].append(request)
        }
        for (reader, requests) in zip(readers, byReader) where !requests.isEmpty {
            try reader.read(requests, options: options)
        }
    }

    public func mapped(_ name: String) throws(CairnError) -> Tensor? { try reader(of: name).mapped(name) }

    public func storedPieces(of name: String, in region: Region?) throws(CairnError) -> [StoredPiece]? {
        try reader(of: name).storedPieces(of: name, in: region)
    }

    public func requireStored(_ name: String) throws(CairnError) { try reader(of: name).requireStored(name) }

    public func verify(deep: Bool, progress: @escaping @Sendable (Int) throws -> Void) throws -> VerificationReport {
        var report = VerificationReport()
        for reader in readers {
            let found = try reader.verify(deep: deep, progress: progress)
            report.damages += found.damages
            report.fileCount += found.fileCount
            report.chunkCount += found.chunkCount
            report.byteCount += found.byteCount
            report.unsummedByteCount += found.unsummedByteCount
            report.notes += found.notes
        }
        return report
    }
}
