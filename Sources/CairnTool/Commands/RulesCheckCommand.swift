import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor
import CairnUniversal

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
