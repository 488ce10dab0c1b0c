import CairnBase
import CairnProtect
import CairnStorage

/// Parity of arbitrary bytes.
enum FuzzProtection {
    /// As many bytes as the seeds' files have.
    private static let sizes = ["file-0": 3000, "file-1": 900, "file-2": 0]

    static func run(_ bytes: [UInt8]) throws {
        let storage = MemoryStorage()
        for (name, size) in sizes {
            try storage.publish((0..<size).map { UInt8(truncatingIfNeeded: $0 &* 7) }, as: name)
        }
        // As a parity file, marks and checksums included; and as the index of two, which have all that around them.
        try storage.publish(bytes, as: "raw.cairn-parity-00")
        for number in 0..<2 {
            if let file = around(bytes, number: number) {
                try storage.publish(file, as: "set.cairn-parity-0\(number)")
            }
        }
        for protection in try Protection.find(in: storage) {
            _ = "\(try protection.verify(concurrency: 1).files)"
            do {
                try read(protection.fileNames, in: RepairedStorage(storage))
                try protection.repair(concurrency: 1)
            } catch {
                _ = "\(error)"
            }
        }
    }

    private static let mostBlockBytes = 1 << 20

    /// A parity file with this index, and zeros as blocks; `nil` for bytes that are no index.
    private static func around(_ index: [UInt8], number: Int) -> [UInt8]? {
        guard let parsed = try? ParityIndex(parsing: index, file: "fuzz"), parsed.parityByteCount <= mostBlockBytes else {
            return nil
        }
        let record = ParityRecord(text: index, blockBytes: parsed.parityByteCount)
        guard let head = try? record.head(number: number) else { return nil }
        return head + [UInt8](repeating: 0, count: parsed.parityByteCount) + record.tail(number: number)
    }

    private static func read(_ names: [String], in storage: RepairedStorage) throws {
        _ = try storage.list("")
        for name in names.prefix(8) {
            let file = try storage.open(name)
            let count = min(file.byteCount, 1 << 16)
            _ = try file.bytes(in: 0..<count)
            _ = try file.bytes(in: file.byteCount - count / 2..<file.byteCount)
        }
    }
}
