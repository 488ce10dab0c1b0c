import CairnBase
public import CairnTensor

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Where a checkpoint comes from.
public struct Lineage: Sendable, Hashable {
    /// A checkpoint that this one was made from.
    public struct Parent: Sendable, Hashable {
        /// The parent's step, where it has one.
        public var step: Int?
        /// The parent's save id, where it has one.
        public var saveID: SaveID?
        /// Where it was read from, as the user named it.
        public var source: String?
        /// Its weight in a merge.
        public var coefficient: Double?

        public init(step: Int? = nil, saveID: SaveID? = nil, source: String? = nil, coefficient: Double? = nil) {
            self.step = step
            self.saveID = saveID
            self.source = source
            self.coefficient = coefficient
        }
    }

    /// How it was made: `training`, `conversion`, `average`, …
    public var operation: String
    /// What it was made from; the state that training resumed from, for a first checkpoint after a resume.
    public var parents: [Parent]
    /// Whatever else it takes to do the same again: a method, a seed, a recipe.
    public var details: [String: Value]

    public init(operation: String, parents: [Parent] = [], details: [String: Value] = [:]) {
        self.operation = operation
        self.parents = parents
        self.details = details
    }
}

/// 128 random bits that every file of one save carries, so that files of two saves are never read as one checkpoint.
public struct SaveID: Sendable, Hashable, CustomStringConvertible {
    private let high: UInt64
    private let low: UInt64

    init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// A fresh id from the system's generator.
    public init() {
        var generator = SystemRandomNumberGenerator()
        self.init(using: &generator)
    }

    /// A fresh id from `generator`.
    package init(using generator: inout some RandomNumberGenerator) {
        high = generator.next()
        low = generator.next()
    }

    /// Reads the form that ``description`` writes; `nil` for anything else.
    public init?(_ text: String) {
        let digits = Array(text.utf8)
        guard digits.count == 32, digits.allSatisfy({ (48...57).contains($0) || (97...102).contains($0) }),
            let high = UInt64(String(decoding: digits[..<16], as: UTF8.self), radix: 16),
            let low = UInt64(String(decoding: digits[16...], as: UTF8.self), radix: 16)
        else { return nil }
        self.high = high
        self.low = low
    }

    /// 32 lowercase hexadecimal digits.
    public var description: String {
        Hexadecimal.encode([high, low].flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> (56 - 8 * $0)) } })
    }
}

/// The program that wrote a checkpoint.
package enum Producer {
    /// This library's version.
    package static let version = "0.1.0"
    /// What manifests name as their producer.
    package static let name = "cairn \(version)"
}

/// Seconds since 1970.
package func currentTime() -> Double {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    return Double(now.tv_sec) + Double(now.tv_nsec) / 1e9
}
