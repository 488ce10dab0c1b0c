import CairnBase
import CairnStorage

/// The directories on the way to what will be written that are not there yet.
struct AbsentDirectories {
    private static let fileSystem = PosixFileSystem()

    /// Deepest first.
    private let paths: [String]

    /// - Throws: ``CairnError/Code/inputOutput`` where it cannot be found out what is there.
    init(upTo path: String) throws(CairnError) {
        var absent: [String] = []
        var next = path
        while try PathInspection.kind(of: next) == nil {
            absent.append(next)
            let above = PathInspection.split(next).directory
            guard above != next else { break }
            next = above
        }
        paths = absent
    }

    /// Removes those that were made since and have nothing in them.
    func removeEmpty() {
        for path in paths { try? Self.fileSystem.removeDirectory(path) }
    }
}
