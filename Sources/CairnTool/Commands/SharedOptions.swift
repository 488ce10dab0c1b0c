import ArgumentParser
import CairnBase
import CairnCheckpoint

/// What every reading command understands.
struct ReadingOptions: ParsableArguments {
    @Option(help: "Read PATH as this format instead of finding out.")
    var format: FormatName?

    @Option(help: ArgumentHelp(PartArgument.help, valueName: "n"))
    var part: Int?

    @Flag(help: "Print one JSON document instead of text for people (Docs/CLI.md describes it).")
    var json = false

    func validate() throws { try PartArgument.validate(part) }
}

/// Whether a checkpoint of a run is compressed, for every command that writes one.
struct CompressionOptions: ParsableArguments {
    @Flag(help: "Compress the tensors: byte planes and zstd, where that makes them smaller. For cairn.")
    var compress = false

    @Option(help: "The level of --compress, from 1 (fast) to 19 (small).")
    var level = 3

    func validate() throws {
        if !(1...19).contains(level) { throw ValidationError("--level must be from 1 to 19 (got \(level))") }
    }

    var compression: Compression { compress ? .zstd(level: level) : .none }
}

/// Which of several saves in a file is meant.
enum PartArgument {
    static let help = "Of a file that several states were saved to, one behind the other, take this one, from 1."

    static func validate(_ part: Int?) throws {
        if let part, part < 1 { throw ValidationError("--part must be at least 1 (got \(part))") }
    }
}

/// What becomes of notes of loss, for every command that writes.
struct LossOptions: ParsableArguments {
    @Flag(help: "Make notes of loss an error: fail, and leave nothing, where something is not carried over as it was.")
    var strict = false

    /// What of a nested state names and plain values do not keep, for what does not go through a writer that says so.
    static func flattened(_ reader: any CheckpointReader) -> [String] {
        reader.structure.map { StateLosses(of: $0, in: .flat).notes } ?? []
    }

    /// - Parameter notes: What is known to be lost before anything is written.
    /// - Throws: ``CairnError/Code/unsupported`` where there are any and that is an error.
    func check(_ notes: [String]) throws(CairnError) {
        if strict, !notes.isEmpty { throw CairnError.refusing(losses: notes) }
    }
}

/// Which tensors of a checkpoint are meant.
struct SelectionOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "Take only tensors and values with a name like this; may be given several times.", valueName: "glob"))
    var include: [String] = []

    @Option(
        help: ArgumentHelp(
            "Leave out tensors and values with a name like this; may be given several times.", valueName: "glob"))
    var exclude: [String] = []

    /// Whether a name is meant.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` for an invalid pattern.
    func test() throws(CairnError) -> @Sendable (String) -> Bool {
        var included: [GlobPattern] = [], excluded: [GlobPattern] = []
        for text in include { included.append(try GlobPattern(text)) }
        for text in exclude { excluded.append(try GlobPattern(text)) }
        return { [included, excluded] name in
            (included.isEmpty || included.contains { $0.matches(name) }) && !excluded.contains { $0.matches(name) }
        }
    }
}
