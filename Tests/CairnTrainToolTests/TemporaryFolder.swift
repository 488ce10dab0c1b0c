import Cairn

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A folder of its own for a test, removed at the end.
final class TemporaryFolder {
    let path: String

    /// Where the sources and fixtures are.
    static let repository = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(3)
        .joined(separator: "/")

    init() throws {
        var template = Array("/tmp/cairn-run-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw CairnError(.inputOutput, "no temporary folder") }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit {
        let storage = LocalStorage(root: path)
        if let entries = try? storage.list("") { try? storage.delete(entries.map(\.key)) }
        rmdir(path)
    }
}

/// Steele, Lea, Flood 2014.
struct SplitMixGenerator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
