import CairnBase
import CairnStorage

extension StorageConformance {
    static let reading: [StorageConformance] = [
        StorageConformance("whatIsPublishedIsReadBack") { storage, directory in
            for count in [0, 1, 511, 512, 513, 4_096, 10_000] {
                let bytes = patternBytes(count, salt: count)
                try storage.publish(bytes, as: "\(directory)/small-\(count)")
                try requireEqual(try storage.readAll("\(directory)/small-\(count)"), bytes, "\(count) bytes")
            }
        },
        StorageConformance("whatIsWrittenIsReadBack") { storage, directory in
            for count in [0, 1, 4_095, 70_001] {
                let bytes = patternBytes(count, salt: count)
                try storage.write(bytes, as: "\(directory)/a/b/c/object", reserving: count)
                try requireEqual(try storage.readAll("\(directory)/a/b/c/object"), bytes, "\(count) bytes")
            }
        },
        StorageConformance("rangesOfALargeObjectAreReadAtOddOffsets") { storage, directory in
            let bytes = patternBytes(3 << 20 | 7)
            try storage.write(bytes, as: "\(directory)/large", reserving: bytes.count)
            let file = try storage.open("\(directory)/large")
            try requireEqual(file.byteCount, bytes.count, "size")
            for (offset, count) in [(0, 1), (1, 4_095), (4_095, 2), (1 << 20 | 3, 1 << 20 | 5), (bytes.count - 1, 1)] {
                try require(
                    try file.bytes(in: offset..<offset + count) == Array(bytes[offset..<offset + count]),
                    "range at \(offset) of \(count) bytes differs")
            }
        },
        StorageConformance("aReadBeyondTheEndIsIncompleteAndSaysWhere") { storage, directory in
            try storage.publish(patternBytes(100), as: "\(directory)/short")
            let file = try storage.open("\(directory)/short")
            for (offset, count, found) in [(0, 101, 100), (50, 51, 50), (100, 1, 0), (5_000, 1, 0), (.max, 10, 0)] {
                var buffer = [UInt8](repeating: 0, count: count)
                do throws(CairnError) {
                    var span = buffer.mutableSpan
                    var raw = span.mutableBytes
                    try file.read(at: offset, into: &raw)
                    throw CairnError(.mismatch, "the read did not throw")
                } catch {
                    try requireEqual(error.code, .incomplete, "\(error)")
                    try requireEqual(error.context.offset, offset, "offset")
                    try requireEqual(error.context.expected, "\(count) bytes", "expected")
                    try requireEqual(error.context.found, "\(found) bytes", "found")
                    try require(error.context.file?.contains("short") == true, "names the file")
                }
            }
            try requireError(.invalidArgument, "a negative offset") {
                var buffer: [UInt8] = [0]
                var span = buffer.mutableSpan
                var raw = span.mutableBytes
                try file.read(at: -1, into: &raw)
            }
        },
        StorageConformance("readingNothingIsAlwaysPossible") { storage, directory in
            try storage.publish([], as: "\(directory)/empty")
            let file = try storage.open("\(directory)/empty")
            try requireEqual(file.byteCount, 0, "size")
            try requireEqual(try file.bytes(in: 0..<0), [], "bytes")
            if let mapping = try file.map() { try requireEqual(mapping.byteCount, 0, "mapped size") }
        },
        StorageConformance("aMappingShowsTheWholeObject") { storage, directory in
            let bytes = patternBytes(200_003)
            try storage.write(bytes, as: "\(directory)/mapped")
            guard let mapping = try storage.open("\(directory)/mapped").map() else { return }
            try requireEqual(mapping.byteCount, bytes.count, "mapped size")
            try require(mapping.bytes.withUnsafeBytes { Array($0) } == bytes, "mapped bytes differ")
        },
        StorageConformance("aMissingObjectIsNotFound") { storage, directory in
            try storage.publish([1], as: "\(directory)/present/object")
            for key in ["absent", "absent/object", "present", "present/other", "present/object/below"] {
                try requireError(.notFound, key) { _ = try storage.open("\(directory)/\(key)") }
            }
        },
        StorageConformance("anOversizedObjectIsRefusedBeforeItIsRead") { storage, directory in
            try storage.publish(patternBytes(1_000), as: "\(directory)/object")
            try requireError(.malformed, "limit") { _ = try storage.readAll("\(directory)/object", limit: 999) }
            try requireEqual(try storage.readAll("\(directory)/object", limit: 1_000).count, 1_000, "size")
        },
    ]
}
