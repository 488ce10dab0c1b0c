import Testing

#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

/// Which random layouts a run tries: the same ones each time, and more where CAIRN_SOAK_LAYOUTS says how many.
enum LayoutSeeds {
    /// Why a property does not hold.
    struct Failure: Error, CustomStringConvertible {
        var description: String

        init(_ description: String) { self.description = description }
    }

    /// Calls `body` for each seed until it throws, and records that with the seed.
    static func forEach(_ usual: Int, of base: UInt64, _ body: (UInt64) throws -> Void) {
        for seed in seeds(usual, of: base) {
            do {
                try body(seed)
            } catch {
                Issue.record("seed \(seed): \(error)")
                return
            }
        }
    }

    private static func seeds(_ usual: Int, of base: UInt64) -> Range<UInt64> {
        let asked = getenv("CAIRN_SOAK_LAYOUTS").flatMap { Int(String(cString: $0)) }
        // A longer run starts elsewhere, so that it finds what the usual one cannot.
        let first = asked == nil ? base : base &+ UInt64(time(nil)) << 20
        return first..<first + UInt64(max(0, asked ?? usual))
    }
}
