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
    try require(found == expected, "\(what): expected \(String(describing: expected).prefix(200)), "
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
