import CairnBase
import CairnCheckpoint
import CairnStorage

/// Where a command writes a checkpoint, checked before anything is written.
struct Destination {
    let path: String
    let format: OutputFormat
    var options: CheckpointTarget.Options

    /// The writer; nothing has been written yet.
    ///
    /// - Throws: ``CairnError/Code/alreadyExists`` for what must not be replaced.
    func writer() throws -> any CheckpointWriter { try format.target.writer(path, options) }

    /// What to call what is written: a path, of a run with the step.
    var name: String { format.target.place == .run ? "\(path)@\(options.step)" : path }

    /// Writes a checkpoint and shows how far that is; an interruption stops it. What was not carried over is said.
    ///
    /// - Parameters:
    ///   - title: What is being done, for the progress.
    ///   - strict: Whether what cannot be carried over is an error.
    ///   - prepare: Called with the writer before anything is written; what it returns gets the bytes.
    /// - Returns: What was not carried over.
    func write(
        _ reader: any CheckpointReader, _ title: String, strict: Bool,
        through prepare: (any CheckpointWriter) throws -> any CheckpointWriter = { $0 }
    ) throws -> [String] {
        let absent = try AbsentDirectories(upTo: path)
        do {
            let writer = try prepare(writer())
            Interruption.watch()
            let notes = try ShownCopy.run(from: reader, to: writer, title, strict: strict)
            for note in notes { StandardError.note(note) }
            return notes
        } catch {
            absent.removeEmpty()
            throw error
        }
    }

    /// - Parameter source: What is read, which must not be touched.
    /// - Throws: ``CairnError/Code/invalidArgument`` when the result would be written over or into it, or when what is at the
    ///   path cannot be what is written.
    func check(reading source: SourceFiles) throws {
        switch format.target.place {
        case .file:
            if try PathInspection.kind(of: path) == .directory {
                throw CairnError(
                    .invalidArgument, "this format is written as one file", .init(file: path, found: "a directory"))
            }
        case .run:
            if try PathInspection.kind(of: path) == .directory,
                try CheckpointFormats.recognise(path, as: .cairn).step != nil
            {
                throw CairnError(
                    .invalidArgument, "this is one checkpoint of a run",
                    .init(file: path, expected: "the directory of a run"))
            }
        case .directory, .namedFiles: break
        }
        guard try isOver(source) else { return }
        throw CairnError(
            .invalidArgument, "the result would be written over or into the source",
            .init(
                file: path,
                advice: format.isRun ? "choose another --step or another run" : "choose another path"))
    }

    private func isOver(_ source: SourceFiles) throws -> Bool {
        let target = PathInspection.canonical(path)
        switch format.target.place {
        case .file: return try source.includes(target)
        case .directory:
            // Old files of the format there are deleted: none may belong to the source.
            return source.isHeld(by: target) || source.contains(target)
        case .namedFiles:
            guard !source.isAt(target), let files = format.target.namedFiles?(target) else { return true }
            return source.isTouched(in: files.directory, by: format, named: files.includes)
        case .run:
            if case .step(let store, let step) = source, target == store { return step == options.step }
            return source.isAt(target)
        }
    }
}

/// A copy from reader to writer, with progress on a terminal, that an interruption stops.
enum ShownCopy {
    /// - Returns: What was not carried over.
    static func run(
        from reader: any CheckpointReader, to writer: any CheckpointWriter, _ title: String, strict: Bool
    ) throws -> [String] {
        let bar = ProgressBar(title, total: byteCount(of: reader))
        defer { bar.finish() }
        var before = 0
        return try copyCheckpoint(from: reader, to: InterruptibleWriter(writer), strict: strict) { written, _ in
            bar.add(written - before)
            before = written
        }
    }

    /// The bytes that are stored of a checkpoint: a tensor with two names counts once.
    static func byteCount(of reader: any CheckpointReader) -> Int {
        reader.tensors.lazy.filter { $0.tiedTo == nil }.totalByteCount
    }
}

/// The files that a command reads and must not touch, by their canonical paths.
enum SourceFiles {
    case file(String)
    /// A directory; `files`: which names in it are the source's where others may stand beside them.
    case directory(String, files: [String]?, of: CheckpointFormat?)
    /// One checkpoint of a run.
    case step(store: String, Int)

    /// - Parameters:
    ///   - files: Which files of a directory are read; all by default.
    ///   - format: The format of the source.
    init(path: String, files: [String]? = nil, of format: CheckpointFormat? = nil) throws {
        let canonical = PathInspection.canonical(path)
        let isDirectory = try PathInspection.kind(of: path) == .directory
        self = isDirectory ? .directory(canonical, files: files, of: format) : .file(canonical)
    }

    /// Whether a path is the source itself, or for a checkpoint of a run inside of it.
    func isAt(_ path: String) -> Bool {
        switch self {
        case .file(let file): path == file
        case .directory(let directory, _, _): path == directory
        case .step: contains(path)
        }
    }

    /// Whether a path is the source itself or inside of it.
    func contains(_ path: String) -> Bool {
        switch self {
        case .file(let file): path == file
        case .directory(let directory, _, _): path == directory || path.hasPrefix(directory + "/")
        case .step(let store, let step): (path + "/").hasPrefix(PathInspection.join(store, StepName.prefix(step)))
        }
    }

    /// Whether a file is one of the source's.
    func includes(_ path: String) throws -> Bool {
        // An index stands for the files beside it.
        if case .file(let file) = self, file.hasSuffix(".json"),
            PathInspection.split(file).directory == PathInspection.split(path).directory
        {
            return try PathInspection.kind(of: path) != nil
        }
        return contains(path)
    }

    /// Whether a directory holds the source, or lies in the run that it belongs to.
    func isHeld(by directory: String) -> Bool {
        switch self {
        case .file(let file): PathInspection.split(file).directory == directory
        case .directory: false
        case .step(let store, _): directory == store || directory.hasPrefix(store + "/")
        }
    }

    /// Whether files that are put into a directory beside others could be the source's, or be taken for part of it.
    ///
    /// - Parameter isWritten: Which names are written or deleted.
    func isTouched(in directory: String, by format: OutputFormat, named isWritten: (String) -> Bool) -> Bool {
        switch self {
        case .file(let file):
            let (own, name) = PathInspection.split(file)
            return own == directory && isWritten(name)
        case .directory(let own, let files, let source):
            guard own == directory else { return false }
            // Where both are of one format, the directory would hold two checkpoints.
            let isAlike = source?.targets.contains { $0.name == format.name } ?? true
            return isAlike || files?.contains(where: isWritten) ?? true
        // A run with files of another format in it is neither.
        case .step(let store, _): return store == directory || contains(directory)
        }
    }
}

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
