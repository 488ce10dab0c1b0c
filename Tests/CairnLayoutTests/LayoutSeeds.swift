#if canImport(Glibc)
import Glibc
#else
import Darwin
#endif

/// Which random layouts a run tries: the same ones each time, and more where CAIRN_SOAK_LAYOUTS says how many.
enum LayoutSeeds {
    static func seeds(_ usual: Int, of base: UInt64) -> [UInt64] {
        let asked = getenv("CAIRN_SOAK_LAYOUTS").flatMap { Int(String(cString: $0)) }
        // A longer run starts elsewhere, so that it finds what the usual one cannot.
        let first = asked == nil ? base : base &+ UInt64(time(nil)) << 20
        return (0..<UInt64(asked ?? usual)).map { first &+ $0 }
    }
}
