import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnProtect
import CairnStorage

/// The files that a path stands for, where it is no run: what parity beside them protects.
struct ProtectedFiles {
    /// Where they are, with the parity files.
    let directory: String
    /// From the directory on.
    let names: [String]
    /// What the parity files are named after.
    let name: String

    private static let skippedDirectories = [".git/", ".cache/"]

    /// - Throws: ``CairnError/Code/notFound`` for what is not there, ``CairnError/Code/malformed`` for an index of shards that is
    ///   none.
    init(path: String) throws(CairnError) {
        if try PathInspection.kind(of: path) == .directory {
            directory = path
            name = PathInspection.split(PathInspection.canonical(path)).name
            var names: [String] = []
            for entry in try LocalStorage(root: path).list("") where !entry.isTemporary && !Protection.isParity(entry.key) {
                let folders = "/" + entry.key
                if !Self.skippedDirectories.contains(where: { folders.contains("/" + $0) }) { names.append(entry.key) }
            }
            self.names = names
            return
        }
        (directory, name) = PathInspection.split(path)
        names = [name] + (name.hasSuffix(".index.json") ? try Self.shards(directory, name) : [])
    }

    private static func all(in directory: String) throws(CairnError) -> [Protection] {
        try Protection.find(in: LocalStorage(root: directory), folder: "", PathInspection.names(in: directory))
    }

    /// The files that an index of shards names.
    private static func shards(_ directory: String, _ name: String) throws(CairnError) -> [String] {
        let bytes = try LocalStorage(root: directory).readAll(name, limit: 1 << 30)
        var shards = Set<String>()
        do throws(JSONError) {
            for member in try JSONValue(parsing: bytes).asObject().object("weight_map").members {
                shards.insert(try member.value.asString())
            }
        } catch {
            throw error.cairnError(file: PathInspection.join(directory, name))
        }
        return shards.sorted { ExactString($0) < ExactString($1) }
    }

    /// What protects a file or a directory, which need not be there any more.
    static func protections(of path: String) throws(CairnError) -> [Protection] {
        if try PathInspection.kind(of: path) == .directory { return try all(in: path) }
        let (directory, name) = PathInspection.split(path)
        guard try PathInspection.kind(of: directory) == .directory else { return [] }
        return try all(in: directory).filter { protection in
            (protection.fileNames + protection.parityFileNames).contains { ExactString($0) == ExactString(name) }
        }
    }
}

/// How files are arranged, as `--layout` takes it.
enum LayoutName: String, CaseIterable, ExpressibleByArgument {
    case auto, files, ranges

    var layout: ProtectionLayout {
        switch self {
        case .auto: .automatic
        case .files: .files
        case .ranges: .ranges
        }
    }
}
