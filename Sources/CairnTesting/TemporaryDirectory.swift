package import CairnBase

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A folder of its own for a test, removed with all that is in it when the owner goes.
package final class TemporaryDirectory: Sendable {
    /// Where it is.
    package let path: String

    /// - Throws: ``CairnError/Code/inputOutput`` when there can be none.
    package init() throws(CairnError) {
        let parent = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
        var template = Array("\(parent)/cairn-test-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else {
            throw CairnError(.inputOutput, "there is no room for a temporary folder", .init(file: parent))
        }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit { Self.remove(path) }

    /// The absolute path of a name in it.
    package func path(_ name: String) -> String { path + "/" + name }

    private static func remove(_ path: String) {
        var status = stat()
        // A link is removed, not followed.
        guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else {
            unlink(path)
            return
        }
        // Some tests take the right to look into a folder away.
        chmod(path, S_IRWXU)
        if let stream = opendir(path) {
            while let entry = readdir(stream) {
                let name = withUnsafePointer(to: &entry.pointee.d_name) { tuple in
                    tuple.withMemoryRebound(to: CChar.self, capacity: 1) { String(cString: $0) }
                }
                if name != ".", name != ".." { remove(path + "/" + name) }
            }
            closedir(stream)
        }
        rmdir(path)
    }
}
