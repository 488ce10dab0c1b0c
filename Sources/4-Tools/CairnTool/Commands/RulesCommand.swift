import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor
import CairnUniversal

/// `cairn rules`
struct RulesCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rules", abstract: "Check, guess, print and apply the rules that gather the shards of other frameworks.",
        discussion: """
            Rules say which tensors of a distributed checkpoint are parts of which logical ones (Docs/Rules.md).

            Examples:
              cairn rules preset megatron-llama > rules.yaml
              cairn rules check rules.yaml shards/ --mesh pp=2,tp=4
              cairn rules infer tp2/ whole.safetensors > rules.yaml
              cairn rules divide rules.yaml llama/ shards --mesh pp=2,dp=1,tp=4
              cairn convert shards whole.safetensors --to safetensors --rules rules.yaml --mesh pp=2,dp=1,tp=4
            With --json, check and infer print one JSON document.
            """,
        subcommands: [
            RulesCheckCommand.self, RulesDivideCommand.self, RulesInferCommand.self, RulesPresetCommand.self,
        ])
}

/// Sizes of mesh axes as an argument.
struct MeshArgument: ExpressibleByArgument {
    var sizes: [String: Int] = [:]

    init?(argument: String) {
        for part in argument.split(separator: ",", omittingEmptySubsequences: false) {
            let pair = part.split(separator: "=", omittingEmptySubsequences: false)
            guard pair.count == 2, !pair[0].isEmpty, let size = Int(pair[1]), size >= 1,
                sizes.updateValue(size, forKey: String(pair[0])) == nil
            else { return nil }
        }
    }
}

/// `cairn rules preset`
struct RulesPresetCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "preset", abstract: "Print rules that come with Cairn, to be changed and kept.",
        discussion: """
            Without a name the presets are listed. The numbers in them are of a small model: set your own.

            Example:
              cairn rules preset megatron-gpt --set layers=24,heads=16,groups=16,head_dim=64 > rules.yaml
            """)

    @Argument(help: "Which preset.")
    var name: String?

    @Option(name: .customLong("set"), help: ArgumentHelp("Numbers to put into it.", valueName: "name=number,…"))
    var parameters: MeshArgument?

    func run() throws {
        guard let name else {
            for preset in RulesPreset.all {
                let padding = String(repeating: " ", count: max(1, 20 - preset.name.count))
                try StandardOutput.line("\(preset.name)\(padding)\(preset.summary)")
            }
            return
        }
        guard let preset = RulesPreset.all.first(where: { $0.name == name }) else {
            throw CairnError(
                .notFound, "there is no such preset",
                .init(expected: RulesPreset.all.map(\.name).joined(separator: ", "), found: name))
        }
        var specification = try preset.specification()
        for (parameter, value) in (parameters?.sizes ?? [:]).sorted(by: { $0.key < $1.key }) {
            guard let position = specification.parameters.firstIndex(where: { $0.name == parameter }) else {
                throw CairnError(
                    .notFound, "the preset has no such number",
                    .init(
                        expected: specification.parameters.map(\.name).joined(separator: ", "), found: parameter))
            }
            specification.parameters[position].value = value
        }
        try StandardOutput.write(Array(specification.yaml.utf8))
    }
}

/// `cairn rules infer`
struct RulesInferCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "infer", abstract: "Propose rules from two shard sets of one model at different parallel sizes.",
        discussion: """
            A and B are directories of shards, one a rank, or one whole checkpoint; they differ in the size of one \
            mesh axis. Shapes say what is sharded; data is read to tell sections from plain shards \
            and replicas from partial tensors. \
            Each rule carries a remark how sure it is; names are kept.

            Example:
              cairn rules infer tp4/ tp1.safetensors > rules.yaml
            """)

    @Argument(help: ArgumentHelp("Shards at one size.", valueName: "a"))
    var first: String

    @Argument(help: ArgumentHelp("Shards at another size.", valueName: "b"))
    var second: String

    @Option(help: "What the mesh axis is called.")
    var axis = "tp"

    @Flag(help: "Read no data: every rule is then a guess.")
    var shapesOnly = false

    @OptionGroup var options: ReadingOptions

    func run() throws {
        let inferred = try UniversalSpec.infer(
            ShardSet([first], format: options.format, part: options.part).readers,
            ShardSet([second], format: options.format, part: options.part).readers,
            axis: axis, readsData: !shapesOnly)
        if options.json {
            try ResultDocument.print(
                schema: "cairn-rules-infer/1",
                [
                    "rules": .array(
                        inferred.findings.map { finding in
                            .object([
                                "rule": .string(finding.rule), "remark": .string(finding.remark),
                                "guess": .bool(finding.isGuess), "tensors": .count(finding.tensorCount),
                            ])
                        }), "unexplained": .strings(inferred.unexplained), "yaml": .string(inferred.yaml),
                ])
        } else {
            try StandardOutput.write(Array(inferred.yaml.utf8))
        }
        let guesses = inferred.findings.count { $0.isGuess }
        if guesses > 0 {
            StandardError.note("\(guesses) of \(inferred.findings.count) rules are guesses: look at their remarks")
        }
        if !inferred.unexplained.isEmpty {
            StandardError.note("\(inferred.unexplained.count) tensors are not explained")
            throw Exit.answerIsNo
        }
    }
}

/// `cairn rules check`
struct RulesCheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Say what each tensor of shards becomes by rules, and everything that does not fit.",
        discussion: """
            Only metadata is read. The answer is no (exit code 1) when a tensor is claimed by no rule or by two, a \
            rule matches nothing, or names, shapes and types do not agree with what the rules say.

            SHARDS are the ranks in the order of the mesh (the last axis varies fastest), or one directory of them.

            Example:
              cairn rules check rules.yaml shards/ --mesh pp=2,tp=4
            """)

    @Argument(help: ArgumentHelp("The rules.", valueName: "file"))
    var file: String

    @Argument(help: ArgumentHelp("The shards, one a rank.", valueName: "shards"))
    var shards: [String]

    @Option(
        help: ArgumentHelp("Sizes of mesh axes; one may follow from the number of shards.", valueName: "axis=size,…"))
    var mesh: MeshArgument?

    @OptionGroup var options: ReadingOptions

    func run() throws {
        let specification = try RulesFile.read(file)
        let set = try ShardSet(shards, format: options.format, part: options.part)
        let explanation = try specification.explain(set.readers, mesh: mesh?.sizes ?? [:])
        if options.json { try printDocument(explanation) } else { try printText(explanation) }
        if !explanation.problems.isEmpty { throw Exit.answerIsNo }
    }

    private func printText(_ explanation: RulesExplanation) throws {
        var table = Table([
            .init(title: "logical", isFlexible: true), .init(title: "type and shape"),
            .init(title: "foreign", isFlexible: true), .init(title: "placement", isFlexible: true),
            .init(title: "rule", isFlexible: true),
        ])
        for application in explanation.applications {
            let foreign = application.foreign.map(\.name).joined(separator: " + ")
            let placement = application.foreign.first.map { "\($0.layout)" } ?? ""
            if application.logical.isEmpty {
                table.append(["(dropped)", "", .init(foreign), "", .init(application.rule)])
            }
            for tensor in application.logical {
                let tie = tensor.tiedTo.map { " = \($0)" } ?? ""
                table.append([
                    .init(tensor.name + tie), .init("\(tensor.scalarType)\(tensor.shape)"), .init(foreign),
                    .init(([placement] + application.transforms).filter { !$0.isEmpty }.joined(separator: "; ")),
                    .init(application.rule),
                ])
            }
        }
        for line in table.lines() { try StandardOutput.line(line) }
        for line in explanation.oneWay { try StandardOutput.line(PrintableText.escape("one-way: \(line)")) }
        for problem in explanation.problems {
            try StandardOutput.line(PrintableText.escape("problem: \(problem)"))
        }
        let count = explanation.applications.reduce(0) { $0 + $1.logical.count }
        let outcome = explanation.problems.isEmpty ? "fits" : "does not fit: \(explanation.problems.count) problems"
        try StandardOutput.line("\(outcome); \(count) logical tensors on the mesh \(explanation.mesh)")
    }

    private func printDocument(_ explanation: RulesExplanation) throws {
        let applications = explanation.applications.map { application -> JSONValue in
            .object([
                "rule": .string(application.rule),
                "foreign": .array(
                    application.foreign.map { tensor in
                        .object([
                            "name": .string(tensor.name), "dtype": .string(tensor.scalarType.rawValue),
                            "shape": .shape(tensor.shape), "placement": .string("\(tensor.layout)"),
                            "ranks": .count(tensor.rankCount),
                        ])
                    }),
                "transforms": .strings(application.transforms),
                "logical": .array(
                    application.logical.map { tensor in
                        .object([
                            "fqn": .string(tensor.name), "dtype": .string(tensor.scalarType.rawValue),
                            "shape": .shape(tensor.shape), "tied_to": .optional(tensor.tiedTo),
                        ])
                    }),
            ])
        }
        try ResultDocument.print(
            schema: "cairn-rules-check/1",
            [
                "ok": .bool(explanation.problems.isEmpty), "mesh": .string("\(explanation.mesh)"),
                "applications": .array(applications), "one_way": .strings(explanation.oneWay),
                "problems": .array(
                    explanation.problems.map { problem in
                        .object([
                            "rule": .optional(problem.rule), "tensor": .optional(problem.error.context.tensor),
                            "message": .string(problem.description),
                        ])
                    }),
            ])
    }
}

/// Rules from a file.
enum RulesFile {
    private static let greatestByteCount = 8 << 20

    static func read(_ path: String) throws -> UniversalSpec {
        guard try PathInspection.kind(of: path) == .file else {
            throw CairnError(.notFound, "there is no such file", .init(file: path, expected: "rules in YAML"))
        }
        let bytes = try PathInspection.beginning(of: path, byteCount: greatestByteCount)
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw CairnError(.malformed, "the rules are not UTF-8 text", .init(file: path))
        }
        return try UniversalSpec(yaml: text, file: path)
    }
}
