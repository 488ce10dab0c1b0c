public import CairnBase
package import CairnStorage
import Synchronization

/// The formats that a program knows.
///
/// ```swift
/// let formats: CheckpointFormats = [.cairn, .safetensors, .torch]
/// let checkpoint = try formats.open("model.pt")
/// ```
public struct CheckpointFormats: Sendable, ExpressibleByArrayLiteral {
    package let formats: [CheckpointFormat]

    public init(arrayLiteral formats: CheckpointFormat...) { self.formats = formats }

    public init(_ formats: [CheckpointFormat]) { self.formats = formats }

    /// The format of a name.
    package func named(_ name: String) -> CheckpointFormat? { formats.first { $0.name == name } }

    /// What can be written, in the order of the formats.
    package var targets: [CheckpointTarget] { formats.flatMap(\.targets) }

    /// The target of a name.
    package func target(named name: String) -> CheckpointTarget? { targets.first { $0.name == name } }

    /// Finds out what is at a path.
    ///
    /// - Parameters:
    ///   - forced: The name of the only format to think of.
    ///   - reading: What files are read through, where some of them may be lost.
    /// - Returns: `nil` when no format knows it.
    /// - Throws: ``CairnError/Code/notFound``; ``CairnError/Code/unsupported`` for what several formats claim, and where the one
    ///   that was asked for cannot be it; the problem of a checkpoint that is known to be unusable.
    package func recognise(
        _ path: String, forced: String? = nil, reading: ReadingStorage? = nil
    ) throws(CairnError) -> RecognisedCheckpoint? {
        let contents = try PathContents(path, reading: reading)
        if let forced { return try recognise(contents, as: forced) }
        var claims: [RecognisedCheckpoint] = []
        for format in formats {
            guard let claim = try format.recognise(contents) else { continue }
            claims.append(RecognisedCheckpoint(format: format, claim: claim))
        }
        let yielding = Set(claims.flatMap(\.claim.instead))
        claims.removeAll { yielding.contains($0.format.name) }
        guard let surest = claims.map(\.claim.confidence).max() else { return nil }
        claims.removeAll { $0.claim.confidence < surest }
        if let problem = claims.first?.claim.problem { throw problem }
        guard claims.count > 1 else { return claims.first }
        let names = claims.map(\.format.name)
        throw CairnError(
            .unsupported, "the \(contents.kind.rawValue) can be read as several formats",
            .init(
                file: path, found: names.joined(separator: ", "),
                advice: "say which: \(names.joined(separator: " or ")) (--format, or `open(_:as:)`)"))
    }

    private func recognise(_ contents: PathContents, as name: String) throws(CairnError) -> RecognisedCheckpoint {
        guard let format = named(name) else {
            throw CairnError(
                .invalidArgument, "no format has this name",
                .init(file: contents.path, expected: formats.map(\.name).joined(separator: ", "), found: name))
        }
        let claim = try format.recognise(contents)
        if let problem = claim?.problem { throw problem }
        if let claim { return RecognisedCheckpoint(format: format, claim: claim) }
        guard format.kinds.contains(contents.kind) else {
            throw CairnError(
                .unsupported, "a checkpoint of \(format.title) is a \(format.kinds.first?.rawValue ?? "file")",
                .init(file: contents.path, found: "a \(contents.kind.rawValue)"))
        }
        return RecognisedCheckpoint(format: format, claim: .init(contents.path))
    }

    /// These formats and others.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` when two have the same name.
    public func adding(_ others: CheckpointFormat...) throws(CairnError) -> CheckpointFormats {
        var names = Set(formats.map(\.name))
        for other in others where !names.insert(other.name).inserted {
            throw CairnError(.invalidArgument, "two formats have the same name", .init(found: other.name))
        }
        return CheckpointFormats(formats + others)
    }

    /// Opens the checkpoint at a path, whatever its format.
    ///
    /// - Parameter name: The name of the format, where the path could be of several.
    /// - Throws: ``CairnError/Code/notFound``; ``CairnError/Code/unsupported`` for what no format knows or several claim; the
    ///   problem of a checkpoint that is known to be unusable; ``CairnError/Code/mismatch`` for a reader whose tensors are not
    ///   sorted; what opening throws.
    public func open(
        _ path: String, as name: String? = nil, options: CheckpointFormat.OpenOptions = .init()
    ) throws -> any CheckpointReader {
        guard let found = try recognise(path, forced: name) else {
            throw CairnError(
                .unsupported, "this is not a checkpoint of a known format",
                .init(file: path, expected: formats.map(\.title).joined(separator: ", ")))
        }
        var options = options
        options.step = options.step ?? found.claim.step
        let reader = try found.format.open(found.claim.path, options).reader
        try Self.requireSorted(reader)
        return reader
    }

    /// Names are looked up by binary search: a reader that lists them otherwise would lack what it has.
    private static func requireSorted(_ reader: any CheckpointReader) throws(CairnError) {
        let tensors = reader.tensors
        for (one, next) in zip(tensors, tensors.dropFirst()) where !(ExactString(one.name) < ExactString(next.name)) {
            throw CairnError(
                .mismatch, "the reader of \(reader.format) does not list its tensors by the bytes of their names, each once",
                .init(file: reader.source, tensor: next.name, found: "behind \"\(one.name)\""))
        }
    }
}

/// What a path turned out to hold.
package struct RecognisedCheckpoint: Sendable {
    package let format: CheckpointFormat
    package let claim: CheckpointFormat.Claim

    package init(format: CheckpointFormat, claim: CheckpointFormat.Claim) {
        self.format = format
        self.claim = claim
    }

    /// What is to be opened.
    package var path: String { claim.path }
}

/// What is at a path, as far as formats look at it to recognise theirs. Everything is read once and remembered.
public final class PathContents: Sendable {
    /// How many first bytes of a file are looked at.
    package static let beginningByteCount = 512

    public let path: String
    public let kind: CheckpointFormat.PathKind
    private let reading: ReadingStorage?
    private let remembered = Mutex<[String: any Sendable]>([:])

    /// - Throws: ``CairnError/Code/notFound`` when nothing is there, ``CairnError/Code/unsupported`` for what is neither a file
    ///   nor a directory.
    package init(_ path: String, reading: ReadingStorage? = nil) throws(CairnError) {
        self.path = path
        self.reading = reading
        switch try PathInspection.kind(of: path) {
        case .directory: kind = .directory
        case .file: kind = .file
        case nil: throw CairnError(.notFound, "there is no such file or directory", .init(file: path))
        default: throw CairnError(.unsupported, "this is neither a file nor a directory", .init(file: path))
        }
    }

    /// The last part of the path.
    public var name: String { PathInspection.split(path).name }

    /// The directory that the path is in.
    package var directory: String { PathInspection.split(path).directory }

    /// The names in the directory, sorted; none of a file.
    public func names() throws(CairnError) -> [String] {
        guard kind == .directory else { return [] }
        return try remember("names") { () throws(CairnError) in
            try LocalStorage(root: path).names(PathInspection.names(in: path), readingThrough: reading)
        }
    }

    /// Whether the directory has something of this name.
    public func contains(_ name: String) throws(CairnError) -> Bool { try names().contains(name) }

    /// The first 512 bytes of the file, or all of a shorter one; none of a directory.
    public func beginning() throws(CairnError) -> [UInt8] {
        guard kind == .file else { return [] }
        return try remember("beginning") { () throws(CairnError) in
            guard reading != nil else { return try PathInspection.beginning(of: path, byteCount: Self.beginningByteCount) }
            let file = try file()
            return try file.bytes(in: 0..<min(file.byteCount, Self.beginningByteCount))
        }
    }

    /// Whether the file begins with these bytes.
    public func begins(with bytes: [UInt8]) throws(CairnError) -> Bool { try beginning().starts(with: bytes) }

    /// The file, for formats that look further.
    package func file() throws(CairnError) -> any StorageFile {
        try LocalStorage(root: directory).read(through: reading).open(name)
    }

    /// What several formats ask of the same path, found out once.
    package func remember<Fact: Sendable>(_ key: String, _ make: () throws(CairnError) -> Fact) throws(CairnError) -> Fact {
        if let known = remembered.withLock({ $0[key] }), let fact = known as? Fact { return fact }
        let fact = try make()
        remembered.withLock { $0[key] = fact }
        return fact
    }
}
