import ArgumentParser
import CairnBase
import CairnCheckpoint

/// What every reading command understands.
struct ReadingOptions: ParsableArguments {
    @Option(help: "Read PATH as this format (cairn, safetensors, torch, dcp, deepspeed) instead of finding out.")
    var format: FormatName?

    @Flag(help: "Print one JSON document instead of text for people (Docs/CLI.md describes it).")
    var json = false
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
    /// - Throws: ``CairnError/Code/invalidArgument`` for a pattern that is none.
    func test() throws(CairnError) -> (String) -> Bool {
        var included: [GlobPattern] = [], excluded: [GlobPattern] = []
        for text in include { included.append(try GlobPattern(text)) }
        for text in exclude { excluded.append(try GlobPattern(text)) }
        return { [included, excluded] name in
            (included.isEmpty || included.contains { $0.matches(name) }) && !excluded.contains { $0.matches(name) }
        }
    }
}
