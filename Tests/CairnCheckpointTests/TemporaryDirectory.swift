#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif
import CairnBase
import CairnStorage

/// A folder of its own for a test, removed with everything in it at the end.
final class TemporaryDirectory {
    let path: String

    init() throws {
        var template = Array("/tmp/cairn-test-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw CairnError(.inputOutput, "no temporary folder") }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit {
        let storage = LocalStorage(root: path)
        if let entries = try? storage.list("") { try? storage.delete(entries.map(\.key)) }
        rmdir(path)
    }
}
