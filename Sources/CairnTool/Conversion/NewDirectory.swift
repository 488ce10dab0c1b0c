import CairnBase
import CairnStorage

/// A directory that comes to be with everything in it or not at all: filled under another name beside it, then renamed.
struct NewDirectory {
    private static let fileSystem = PosixFileSystem()

    private let destination: String
    private let partial: String

    /// - Throws: ``CairnError/Code/alreadyExists`` when something is there, ``CairnError/Code/inputOutput`` where none
    ///   can be made.
    init(_ path: String) throws(CairnError) {
        let (directory, name) = PathInspection.split(path)
        destination = PathInspection.join(directory, name)
        partial = PathInspection.join(
            directory, ".\(name).cairn-partial-" + String(Self.fileSystem.uniqueToken(), radix: 16))
        guard try PathInspection.kind(of: destination) == nil else {
            throw CairnError(
                .alreadyExists, "something is there already", .init(file: path, advice: "choose another path"))
        }
        do throws(SystemCallError) {
            try Self.fileSystem.makeDirectory(partial)
        } catch {
            throw error.explained("make a directory in", directory)
        }
    }

    /// Where a file of this name is to be written.
    func path(_ name: String) -> String { PathInspection.join(partial, name) }

    /// Gives the directory its name.
    func publish() throws(CairnError) {
        do throws(SystemCallError) {
            try Self.fileSystem.rename(partial, to: destination)
            let parent = try Self.fileSystem.open(PathInspection.split(destination).directory, .directory)
            defer { try? Self.fileSystem.close(parent) }
            try Self.fileSystem.synchronize(parent)
        } catch {
            throw error.explained("put in place", destination)
        }
    }

    /// Removes what was written.
    func discard() {
        for name in (try? PathInspection.names(in: partial)) ?? [] { try? Self.fileSystem.unlink(path(name)) }
        try? Self.fileSystem.removeDirectory(partial)
    }
}
