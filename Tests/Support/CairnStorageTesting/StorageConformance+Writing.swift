import CairnBase
import CairnStorage

extension StorageConformance {
    static let writing: [StorageConformance] = [
        StorageConformance("aReplacedObjectKeepsItsBytesForWhoHoldsIt") { storage, directory in
            let key = "\(directory)/replaced"
            let old = patternBytes(9_000, salt: 1)
            for viaPublish in [true, false] {
                try storage.write(old, as: key)
                let file = try storage.open(key)
                let mapping = try file.map()
                let new = patternBytes(500, salt: 2)
                if viaPublish { try storage.publish(new, as: key) } else { try storage.write(new, as: key) }
                try requireEqual(try file.bytes(in: 0..<9_000), old, "the old object, still open")
                if let mapping {
                    try require(mapping.bytes.withUnsafeBytes { Array($0) } == old, "the old object, still mapped")
                }
                try requireEqual(try storage.readAll(key), new, "the new object")
                try storage.delete([key])
                try requireEqual(try file.bytes(in: 0..<9_000), old, "the old object, deleted but open")
            }
        },
        StorageConformance("anUnfinishedWriterLeavesTheOldObject") { storage, directory in
            let key = "\(directory)/kept"
            try storage.publish([1, 2, 3], as: key)
            let writer = try storage.create(key, byteCount: 10_000)
            try writer.write(patternBytes(10_000), at: 0)
            try requireEqual(try storage.readAll(key), [1, 2, 3], "while another is being written")
            writer.discard()
            writer.discard()
            try requireEqual(try storage.readAll(key), [1, 2, 3], "after discarding")
            try requireEqual(try storage.list(directory + "/").map(\.key), [key], "what is left")
            try requireError(.invalidArgument, "a write after discard") { try writer.write([1], at: 0) }
            try requireError(.invalidArgument, "finish after discard") { try writer.finish(byteCount: 1) }
        },
        StorageConformance("aReleasedWriterDiscardsItsObject") { storage, directory in
            do {
                let writer = try storage.create("\(directory)/released", byteCount: nil)
                try writer.write([1], at: 0)
            }
            try requireEqual(try storage.list(directory).map(\.key), [], "what is left")
        },
        StorageConformance("discardAfterFinishIsHarmless") { storage, directory in
            let writer = try storage.create("\(directory)/finished", byteCount: nil)
            try writer.write([1, 2], at: 0)
            try writer.finish(byteCount: 2)
            writer.discard()
            try requireEqual(try storage.readAll("\(directory)/finished"), [1, 2], "the object")
            try requireError(.invalidArgument, "a second finish") { try writer.finish(byteCount: 2) }
        },
        StorageConformance("gapsReadAsZerosAndFinishSetsTheLength") { storage, directory in
            for reserved in [nil, 10_000] as [Int?] {
                let writer = try storage.create("\(directory)/sparse", byteCount: reserved)
                try writer.write([7, 8, 9], at: 5_000)
                try writer.write([1], at: 600)
                writer.startWriteback(at: 0, byteCount: 5_003)
                try writer.finish(byteCount: 6_000)
                var expected = [UInt8](repeating: 0, count: 6_000)
                expected[600] = 1
                expected.replaceSubrange(5_000..<5_003, with: [7, 8, 9])
                try requireEqual(try storage.readAll("\(directory)/sparse"), expected, "longer than written")

                let cut = try storage.create("\(directory)/cut", byteCount: reserved)
                try cut.write(patternBytes(10_000), at: 0)
                try cut.finish(byteCount: 1_234)
                try requireEqual(
                    try storage.readAll("\(directory)/cut"), Array(patternBytes(10_000)[..<1_234]),
                    "shorter than written")
            }
        },
        StorageConformance("manyThreadsWriteDisjointRanges") { storage, directory in
            let bytes = patternBytes(2 << 20 | 333, salt: 9)
            let writer = try storage.create("\(directory)/parallel", byteCount: bytes.count)
            let piece = 65_537
            try ThreadPool.shared.forEach(bytes.count.dividedRoundingUp(by: piece), width: 8) { index in
                let range = index * piece..<min(bytes.count, (index + 1) * piece)
                try writer.write(bytes.span.extracting(range).bytes, at: range.lowerBound)
            }
            try writer.finish(byteCount: bytes.count)
            try require(try storage.readAll("\(directory)/parallel") == bytes, "bytes differ")
        },
        StorageConformance("manyThreadsReadOneFile") { storage, directory in
            let bytes = patternBytes(1 << 20, salt: 10)
            try storage.write(bytes, as: "\(directory)/shared")
            let file = try storage.open("\(directory)/shared")
            try ThreadPool.shared.forEach(64, width: 8) { index in
                let range = index * 16_384..<(index + 1) * 16_384
                try require(try file.bytes(in: range) == Array(bytes[range]), "piece \(index) differs")
            }
        },
        StorageConformance("manyThreadsPublishAndDeleteInOneDirectory") { storage, directory in
            try ThreadPool.shared.forEach(64, width: 8) { index in
                let key = "\(directory)/shared-\(index % 2)/\(index)"
                try storage.publish(patternBytes(100, salt: index), as: key)
                try require(try storage.readAll(key) == patternBytes(100, salt: index), "\(key) differs")
                try storage.delete([key])
            }
            try requireEqual(try storage.list(directory), [], "what is left")
        },
        StorageConformance("keysThatLeaveTheRootAreRefused") { storage, _ in
            let keys = [
                "", "/", "/absolute", "..", ".", "../outside", "a/../b", "a/./b", "a//b", "a/", "a\0b", "a/b\0",
            ]
            for key in keys {
                try requireError(.invalidArgument, "open \(key)") { _ = try storage.open(key) }
                try requireError(.invalidArgument, "create \(key)") { _ = try storage.create(key, byteCount: nil) }
                try requireError(.invalidArgument, "publish \(key)") { try storage.publish([1], as: key) }
                try requireError(.invalidArgument, "delete \(key)") { try storage.delete([key]) }
            }
            for prefix in ["/", "../", "a/../", "a//", "a\0"] {
                try requireError(.invalidArgument, "list \(prefix)") { _ = try storage.list(prefix) }
            }
        },
        StorageConformance("unusualKeysAreJustNames") { storage, directory in
            let names = ["...", ".hidden", "with space", "ünïcödé", "a+b%2F", "-rf", "~", "*"]
            let keys = names.map { "\(directory)/\($0)" }
            for (index, key) in keys.enumerated() { try storage.publish([UInt8(index)], as: key) }
            for (index, key) in keys.enumerated() { try requireEqual(try storage.readAll(key), [UInt8(index)], key) }
            try requireEqual(Set(try storage.list(directory + "/").map(\.key)), Set(keys), "listing")
        },
        StorageConformance("negativeSizesAndOffsetsAreRefused") { storage, directory in
            try requireError(.invalidArgument, "size hint") {
                _ = try storage.create("\(directory)/object", byteCount: -1)
            }
            let writer = try storage.create("\(directory)/object", byteCount: nil)
            try requireError(.invalidArgument, "offset") { try writer.write([1], at: -1) }
            try requireError(.invalidArgument, "end") { try writer.write([1, 2], at: .max) }
            try requireError(.invalidArgument, "length") { try writer.finish(byteCount: -1) }
            writer.startWriteback(at: -5, byteCount: -5)
            writer.discard()
        },
    ]
}
