import CairnBase
import CairnProtect
import CairnStorage
import CairnTesting

/// Files in memory that are protected and damaged.
enum Samples {
    /// Random bytes, so that no block is like another.
    static func bytes(_ count: Int, _ generator: inout SeededGenerator) -> [UInt8] {
        (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }
    }

    /// A storage with files of these sizes, `file-0` and so on.
    static func storage(_ sizes: [Int], seed: UInt64) throws -> (storage: MemoryStorage, files: [String: [UInt8]]) {
        var generator = SeededGenerator(seed: seed)
        let storage = MemoryStorage()
        var files: [String: [UInt8]] = [:]
        for (number, size) in sizes.enumerated() {
            let bytes = bytes(size, &generator)
            files["file-\(number)"] = bytes
            try storage.publish(bytes, as: "file-\(number)")
        }
        return (storage, files)
    }

    static func options(
        _ parity: Int, columns: Int? = nil, layout: ProtectionLayout = .automatic, block: Int = 512
    ) -> ProtectionOptions {
        var options = ProtectionOptions(parityCount: parity, columnCount: columns, layout: layout)
        options.blockByteCount = block
        options.concurrency = 1
        return options
    }

    /// Every object of a storage.
    static func contents(of storage: any Storage) throws -> [String: [UInt8]] {
        var contents: [String: [UInt8]] = [:]
        for entry in try storage.list("") { contents[entry.key] = try storage.readAll(entry.key) }
        return contents
    }
}

/// Notes what it is told.
final class Recorder: Sendable {
    private let locations = Monitor<[String]>([])

    var all: [String] { locations.read { $0 } }

    @Sendable func add(_ location: String) { locations.change { $0.append(location) } }
}
