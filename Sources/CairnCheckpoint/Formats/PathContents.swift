public import CairnBase
package import CairnStorage
import Synchronization

/// What is at a path, as far as formats look at it to recognise theirs. Everything is read once and remembered.
public final class PathContents: Sendable {
    /// How many first bytes of a file are looked at.
    public static let beginningByteCount = 512

    public let path: String
    public let kind: CheckpointFormat.PathKind
    private let remembered = Mutex<[String: any Sendable]>([:])

    /// - Throws: ``CairnError/Code/notFound`` when nothing is there, ``CairnError/Code/unsupported`` for what is neither a file
    ///   nor a directory.
    public init(_ path: String) throws(CairnError) {
        self.path = path
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
    public var directory: String { PathInspection.split(path).directory }

    /// The names in the directory, sorted; none of a file.
    public func names() throws(CairnError) -> [String] {
        guard kind == .directory else { return [] }
        return try remember("names") { () throws(CairnError) in try PathInspection.names(in: path) }
    }

    /// Whether the directory has something of this name.
    public func contains(_ name: String) throws(CairnError) -> Bool { try names().contains(name) }

    /// Whether the directory has something whose name ends so.
    public func containsName(endingWith end: String) throws(CairnError) -> Bool {
        try names().contains { $0.hasSuffix(end) }
    }

    /// The first ``beginningByteCount`` bytes of the file, or all of a shorter one; none of a directory.
    public func beginning() throws(CairnError) -> [UInt8] {
        guard kind == .file else { return [] }
        return try remember("beginning") { () throws(CairnError) in
            try PathInspection.beginning(of: path, byteCount: Self.beginningByteCount)
        }
    }

    /// Whether the file begins with these bytes.
    public func begins(with bytes: [UInt8]) throws(CairnError) -> Bool { try beginning().starts(with: bytes) }

    /// The file, for formats that look further.
    package func file() throws(CairnError) -> any StorageFile { try LocalStorage(root: directory).open(name) }

    /// What several formats ask of the same path, found out once.
    package func remember<Fact: Sendable>(_ key: String, _ make: () throws(CairnError) -> Fact) throws(CairnError) -> Fact {
        if let known = remembered.withLock({ $0[key] }), let fact = known as? Fact { return fact }
        let fact = try make()
        remembered.withLock { $0[key] = fact }
        return fact
    }
}
