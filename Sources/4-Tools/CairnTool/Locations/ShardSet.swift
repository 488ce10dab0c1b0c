import CairnBase
import CairnCheckpoint
import CairnStorage

/// The shards of a distributed checkpoint, one a rank.
struct ShardSet {
    let readers: [any CheckpointReader]

    /// Opens shards in the order given; a single directory of several safetensors files without an index, or of several
    /// directories, is a set of them in the order of their names, numbers compared as numbers.
    init(_ paths: [String], format: FormatName?, part: Int? = nil) throws {
        var readers: [any CheckpointReader] = []
        for path in try paths.count == 1 ? Self.members(of: paths[0]) : paths {
            readers.append(try OpenedCheckpoint(path, format: format, part: part).reader)
        }
        self.readers = readers
    }

    private static func members(of path: String) throws -> [String] {
        guard try PathInspection.kind(of: path) == .directory else { return [path] }
        let names = try PathInspection.names(in: path)
        // What has an index, a manifest or steps is one checkpoint or a run.
        let isWhole = names.contains { $0.hasSuffix(".index.json") || $0 == CairnReader.manifestName || $0.hasPrefix("step-") }
        guard !isWhole else { return [path] }
        let files = names.filter { $0.hasSuffix(SafeTensorsShardName.fileExtension) }
        // A checkpoint in several files says so in their names.
        guard !files.contains(where: { $0.contains("-of-") }) else { return [path] }
        var members = files
        if files.isEmpty {
            for name in names where try PathInspection.kind(of: PathInspection.join(path, name)) == .directory {
                members.append(name)
            }
        }
        guard members.count > 1 else { return [path] }
        return members.sorted(by: NaturalOrder.precedes).map { PathInspection.join(path, $0) }
    }
}

/// The order of names in which `rank-10` comes behind `rank-9`.
enum NaturalOrder {
    static func precedes(_ left: String, _ right: String) -> Bool {
        let one = parts(left), other = parts(right)
        for (first, second) in zip(one, other) {
            switch (first, second) {
            case (.number(let first), .number(let second)): if first != second { return first < second }
            case (.text(let first), .text(let second)): if first != second { return first < second }
            case (.number, .text): return true
            case (.text, .number): return false
            }
        }
        return one.count == other.count ? left < right : one.count < other.count
    }

    private enum Part {
        case number(UInt64)
        case text(String)
    }

    private static func parts(_ name: String) -> [Part] {
        var parts: [Part] = []
        var rest = name[...]
        while let first = rest.first {
            let isDigit = { (character: Character) in ("0"..."9").contains(character) }
            let run = rest.prefix { isDigit($0) == isDigit(first) }
            rest = rest[run.endIndex...]
            if isDigit(first), let number = UInt64(run) {
                parts.append(.number(number))
            } else {
                parts.append(.text(String(run)))
            }
        }
        return parts
    }
}
