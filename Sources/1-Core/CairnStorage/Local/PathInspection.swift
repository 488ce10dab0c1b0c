package import CairnBase

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// What is at a path of the local file system.
package enum PathInspection {
    private static let fileSystem = PosixFileSystem()

    /// What is there, links followed; `nil` for nothing.
    ///
    /// - Throws: ``CairnError/Code/inputOutput`` where that cannot be found out.
    package static func kind(of path: String) throws(CairnError) -> FileKind? {
        guard !path.isEmpty else { return nil }
        do throws(SystemCallError) {
            return try fileSystem.status(at: path).kind
        } catch {
            if error.isMissing { return nil }
            throw error.explained("look at", path)
        }
    }

    /// The names in a directory, sorted.
    package static func names(in directory: String) throws(CairnError) -> [String] {
        do throws(SystemCallError) {
            return try fileSystem.entries(of: directory).map(\.name).sorted { ExactString($0) < ExactString($1) }
        } catch {
            throw error.explained("list", directory)
        }
    }

    /// The first bytes of a file, at most so many.
    package static func beginning(of path: String, byteCount: Int) throws(CairnError) -> [UInt8] {
        let (directory, name) = split(path)
        let file = try LocalStorage(root: directory).open(name)
        var bytes = [UInt8](repeating: 0, count: min(byteCount, file.byteCount))
        var span = bytes.mutableSpan
        var raw = span.mutableBytes
        try file.read(at: 0, into: &raw)
        return bytes
    }

    /// The directory of a path and the name in it. A path that names no file has the name ".".
    package static func split(_ path: String) -> (directory: String, name: String) {
        var trimmed = path[...]
        while trimmed.utf8.count > 1, trimmed.utf8.last == UInt8(ascii: "/") { trimmed.removeLast() }
        guard let slash = trimmed.lastIndex(of: "/") else { return (".", String(trimmed)) }
        let directory = slash == trimmed.startIndex ? "/" : String(trimmed[..<slash])
        return (directory, String(trimmed[trimmed.index(after: slash)...]))
    }

    /// A name inside a directory.
    package static func join(_ directory: String, _ name: String) -> String {
        directory.hasSuffix("/") ? directory + name : directory + "/" + name
    }

    /// The absolute path without links, also of what does not exist yet below directories that do.
    package static func canonical(_ path: String) -> String {
        if let resolved = realpath(path, nil) {
            defer { free(resolved) }
            return String(cString: resolved)
        }
        let (directory, name) = split(path)
        guard directory != path else { return path }
        return join(canonical(directory), name)
    }
}
