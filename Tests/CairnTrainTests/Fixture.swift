import CairnTesting
import Testing

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// The data files beside the tests.
enum Fixture {
    static func bytes(_ name: String) throws -> [UInt8] {
        let path = Repository.fixture("data/\(name)")
        let handle = try #require(fopen(path, "rb"), "no \(path)")
        defer { fclose(handle) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        while case let count = fread(&chunk, 1, chunk.count, handle), count > 0 { bytes += chunk[..<count] }
        return bytes
    }
}
