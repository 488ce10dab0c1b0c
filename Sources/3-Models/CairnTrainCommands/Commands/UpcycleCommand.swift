import ArgumentParser
import Cairn
import CairnCheckpoint
import CairnBase
import CairnTrain

extension Upcycling.OptimizerState: ExpressibleByArgument {}

/// Makes a checkpoint with experts of a dense one.
struct UpcycleCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "upcycle",
        abstract: "Turns a dense transformer's checkpoint into one with experts that computes the same.",
        discussion: """
            Each expert is a copy of the feed-forward part, stored once until the experts train apart; with \
            --granularity it is a copy of a part of it. The router starts at random. The report says of every tensor \
            whether it was copied, initialised or dropped.

            EXAMPLE
              cairn-train upcycle runs/kjv@200 runs/moe --experts 4
              cairn-train run --resume --out runs/moe --experts 4 …
            """)

    @Argument(help: "The dense checkpoint: a run's folder, or RUN@STEP.")
    var source: String
    @Argument(help: "The folder of the new run.")
    var out: String
    @Option(help: "Experts in a layer.")
    var experts = 4
    @Option(help: "How many of them each token goes to.")
    var expertsPerToken = 2
    @Option(help: "Every how many layers there are experts.")
    var expertsEvery = 2
    @Option(help: "Into how many parts the feed-forward part is cut, an expert being one.")
    var granularity = 1
    @Option(help: "How much an uneven load of the experts adds to the loss.")
    var expertBalance = 0.01
    @Option(
        help: """
            The optimizer's state: expand copies it with the experts, carry starts that of the experts from zero, drop all \
            of it.
            """)
    var optimizer = Upcycling.OptimizerState.expand
    @Option(help: "Determines the routers.")
    var routerSeed: UInt64 = 0
    @Flag(help: "Only print the rules that say what becomes of each tensor.")
    var rules = false
    @Flag(help: "Print the report as JSON (schema cairn-upcycle/1).")
    var json = false

    func validate() throws {
        guard [experts, expertsPerToken, expertsEvery, granularity].allSatisfy({ (1...1 << 12).contains($0) }) else {
            throw ValidationError("numbers of experts, layers and parts must be from 1 to \(1 << 12)")
        }
    }

    func run() throws {
        let dense = try StoreArgument(source).open()
        let upcycled = try UpcycledCheckpoint(
            dense,
            Upcycling(
                experts: experts, chosen: expertsPerToken, every: expertsEvery, granularity: granularity,
                balance: expertBalance, optimizer: optimizer, seed: routerSeed))
        if rules { return say(upcycled.rules) }
        let store = try NewStore.open(out)
        var options = SaveOptions()
        options.lineage = Lineage(
            operation: "upcycling",
            parents: [
                .init(step: dense.manifest.step, saveID: dense.manifest.saveID, source: StoreArgument(source).folder)
            ])
        let writer = try CairnWriter(store: store, step: dense.manifest.step, options: options)
        _ = try copyCheckpoint(from: upcycled.reader, to: writer)
        let manifest = try store.open(step: dense.manifest.step).manifest
        let stored = manifest.files.reduce(0) { $0 + $1.byteCount }
        if json {
            try printDocument("cairn-upcycle/1", upcycled.document(source: source, out: out, step: manifest.step))
        } else {
            for line in upcycled.lines { say(line) }
            say("\(out)@\(manifest.step): \(stored) bytes")
        }
    }
}

extension UpcycledCheckpoint {
    /// A line for each kind of tensor, with examples.
    fileprivate var lines: [String] {
        let experts = copied.filter { $0.to.count > 1 }
        let ties = experts.reduce(0) { $0 + $1.to.count - $1.storedCount }
        func some(_ names: [String]) -> String {
            names.isEmpty ? "" : ": " + names.prefix(3).joined(separator: ", ") + (names.count > 3 ? ", …" : "")
        }
        return [
            "copied       \(copied.count) tensors; \(experts.count) of them to \(experts.first?.to.count ?? 0) experts "
                + "each, \(ties) of these being stored once with others",
            "initialised  \(initialised.count) tensors" + some(initialised.map { "\($0.name) (\($0.how))" }),
            "dropped      \(dropped.count) tensors" + some(dropped),
        ]
    }

    fileprivate func document(source: String, out: String, step: Int) -> JSONObject {
        [
            "source": .string(source), "destination": .string(out), "step": .integer(Int64(step)),
            "copied": .array(
                copied.map { .object(["from": .string($0.from), "to": .array($0.to.map { .string($0) })]) }),
            "initialised": .array(
                initialised.map { .object(["fqn": .string($0.name), "how": .string($0.how)]) }),
            "dropped": .array(dropped.map { .string($0) }),
        ]
    }
}
