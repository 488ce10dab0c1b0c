package import CairnBase
package import CairnStorage

/// One behaviour that every ``Storage`` must show: a check that throws ``ConformanceFailure`` where it does not.
///
/// Each check expects an empty storage, and writes below `directory` only.
package struct StorageConformance: Sendable, CustomStringConvertible {
    /// A sentence in camel case.
    package let name: String
    private let body: @Sendable (any Storage, String) throws -> Void

    init(_ name: String, _ body: @escaping @Sendable (any Storage, String) throws -> Void) {
        self.name = name
        self.body = body
    }

    /// Runs the check against `storage` with keys below `directory`.
    package func check(_ storage: any Storage, below directory: String = "conformance") throws {
        try body(storage, directory)
    }

    package var description: String { name }

    /// Every check.
    package static let all: [StorageConformance] = reading + writing + listing
}

/// A storage did not do what ``Storage`` promises.
package struct ConformanceFailure: Error, CustomStringConvertible {
    package var description: String
}

func require(_ condition: Bool, _ message: @autoclosure () -> String) throws {
    if !condition { throw ConformanceFailure(description: message()) }
}

func requireEqual<Value: Equatable>(_ found: Value, _ expected: Value, _ what: String) throws {
    try require(
        found == expected,
        "\(what): expected \(String(describing: expected).prefix(200)), "
            + "found \(String(describing: found).prefix(200))")
}

func requireError(_ code: CairnError.Code, _ what: String, _ body: () throws -> Void) throws {
    do {
        try body()
    } catch let error as CairnError {
        return try requireEqual(error.code, code, "\(what), \(error)")
    }
    throw ConformanceFailure(description: "\(what): expected the error \(code), found none")
}

/// `count` bytes that differ for each `salt` and do not repeat soon.
package func patternBytes(_ count: Int, salt: Int = 0) -> [UInt8] {
    var state = UInt64(truncatingIfNeeded: salt) &* 0x9E37_79B9_7F4A_7C15 | 1
    return [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
        for index in 0..<count {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            buffer[index] = UInt8(truncatingIfNeeded: state >> 56)
        }
        initialized = count
    }
}

extension Storage {
    /// Writes an object in one piece through a writer.
    package func write(_ bytes: [UInt8], as key: String, reserving byteCount: Int? = nil) throws(CairnError) {
        let writer = try create(key, byteCount: byteCount)
        try writer.write(bytes, at: 0)
        try writer.finish(byteCount: bytes.count)
    }
}

extension StorageConformance {
    static let listing: [StorageConformance] = [
        StorageConformance("listingsAreSortedAndBeginWithThePrefix") { storage, directory in
            let names = ["b/1", "a", "ab/2", "ab/10", "b/c/d", "ab-3", "Z", "b.txt"]
            for (index, name) in names.enumerated() {
                try storage.publish(patternBytes(index), as: "\(directory)/\(name)")
            }
            func list(_ prefix: String) throws -> [String] {
                try storage.list("\(directory)/\(prefix)").map { String($0.key.dropFirst(directory.count + 1)) }
            }
            try requireEqual(try list(""), ["Z", "a", "ab-3", "ab/10", "ab/2", "b.txt", "b/1", "b/c/d"], "all")
            try requireEqual(try list("ab"), ["ab-3", "ab/10", "ab/2"], "ab")
            try requireEqual(try list("ab/"), ["ab/10", "ab/2"], "ab/")
            try requireEqual(try list("b/c"), ["b/c/d"], "b/c")
            try requireEqual(try list("b/c/d"), ["b/c/d"], "b/c/d")
            try requireEqual(try list("nothing"), [], "nothing")
            try requireEqual(try list("no/thing/"), [], "no/thing/")
            try requireEqual(try list("a/below/a/file"), [], "below a file")
            try requireEqual(try storage.list("").map(\.key), try storage.list(directory).map(\.key), "whole storage")
        },
        StorageConformance("listingsTellSizeAndTime") { storage, directory in
            try storage.publish(patternBytes(123), as: "\(directory)/sized")
            let entry = try storage.list(directory + "/sized").first
            try requireEqual(entry?.byteCount, 123, "size")
            try require(entry?.isTemporary == false, "a finished object is not temporary")
            try require(entry.map { $0.modified >= 0 } == true, "time")
        },
        StorageConformance("deletedObjectsAreGoneAndTheOthersStay") { storage, directory in
            for name in ["step-1/a", "step-1/b", "step-2/deep/er/a", "top"] {
                try storage.publish([1], as: "\(directory)/\(name)")
            }
            let gone = ["step-1/a", "step-1/b", "step-2/deep/er/a", "missing", "missing/too", "top/below"]
            try storage.delete(gone.map { "\(directory)/\($0)" })
            try requireEqual(try storage.list(directory).map(\.key), ["\(directory)/top"], "what is left")
            try storage.delete([])
            try storage.delete(["\(directory)/top", "\(directory)/top"])
            try requireEqual(try storage.list(""), [], "what is left")
            try storage.publish([2], as: "\(directory)/step-1")
            try requireEqual(try storage.readAll("\(directory)/step-1"), [2], "a name that was a directory before")
        },
    ]
}

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
