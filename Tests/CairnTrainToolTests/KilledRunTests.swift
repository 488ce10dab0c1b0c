import Cairn
import CairnTesting
import Testing

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Real processes, really killed.
@Suite(.serialized) struct KilledRunTests {
    /// A few here, as many as asked for in a soak.
    private static func kills(_ usual: Int) -> Int {
        getenv("CAIRN_SOAK_KILLS").flatMap { Int(String(cString: $0)) } ?? usual
    }

    private static let small = [
        "run", "--steps", "120", "--save-every", "2", "--width", "16", "--batch", "4", "--context", "16",
        "--layers", "1", "--heads", "2", "--text", Repository.fixture("data/kjv.txt"),
        "--digits", Repository.fixture("data/digits.csv"),
    ]

    /// A moment of a process's life: while it starts, or, most of the time, after it has committed something. How long
    /// that takes is the machine's business.
    private static func waitForRandomMoment(
        of child: Child, in folder: String, _ generator: inout SeededGenerator
    ) throws {
        let store = CheckpointStore(path: folder)
        let before = try store.steps().last ?? 0
        if Int.random(in: 0..<4, using: &generator) > 0 {
            try waitUntil("a checkpoint after step \(before), or the end of the process") {
                try child.hasEnded || (store.steps().last ?? 0) > before
            }
        }
        usleep(UInt32.random(in: 1_000...100_000, using: &generator))
    }

    @Test(arguments: [
        ["--model", "transformer"], ["--model", "mlp"], ["--mesh", "tp=2,dp=2", "--zero"],
    ])
    func aRunKilledAtRandomMomentsEndsAsIfNothingHadHappened(kind: [String]) throws {
        let folder = try TemporaryDirectory()
        let arguments = Self.small + kind
        let wanted = Self.kills(25)
        #expect(try Child(arguments + ["--out", folder.path + "/whole"]).wait() == 0)
        let expected = try CheckpointStore(path: folder.path + "/whole").load(step: 120)
        let losses = try LocalStorage(root: folder.path + "/whole").readAll("losses.csv", limit: 1 << 20)

        let seed = UInt64.random(in: 0 ... .max)
        var generator = SeededGenerator(seed: seed)
        var (kills, found, finished) = (0, 0, 0)
        while kills < wanted || finished == 0 {
            let name = folder.path + "/killed-\(finished)"
            let child = try Child(arguments + ["--out", name, "--resume"])
            // The last round is left alone, so that there is an end to compare.
            if kills < wanted {
                try Self.waitForRandomMoment(of: child, in: name, &generator)
                if child.kill() { kills += 1 }
            }
            let result = child.wait()
            if result == 0 {
                finished += 1
                #expect(try CheckpointStore(path: name).load(step: 120) == expected, "seed \(seed)")
                #expect(
                    try LocalStorage(root: name).readAll("losses.csv", limit: 1 << 20) == losses, "seed \(seed)")
            } else {
                #expect(result == -SIGKILL, "seed \(seed)")
                // What a kill leaves is whole: every committed step loads.
                let store = CheckpointStore(path: name)
                for step in try store.steps() {
                    _ = try store.load(step: step)
                    found += 1
                }
            }
        }
        let name = kind.joined(separator: " ")
        print("\(name): \(kills) kills, \(found) checkpoints found whole after them, \(finished) runs compared")
        #expect(found > 0)
    }

    /// Before a machine is taken away its processes are asked to end: nothing that was trained is lost.
    @Test(arguments: [[], ["--mesh", "tp=2,dp=2", "--zero"]])
    func aRunThatIsAskedToEndSavesTheStepItIsAtAndEndsOrderly(layout: [String]) throws {
        let folder = try TemporaryDirectory()
        let store = CheckpointStore(path: folder.path + "/run")
        // Saves are far apart, so that the last step is there only because of the signal.
        let many = Self.small + layout + ["--steps", "1000000", "--save-every", "500"]
        let child = try Child(many + ["--out", folder.path + "/run"])
        try waitUntil("the first checkpoint, or the end of the process") { try child.hasEnded || !store.steps().isEmpty }
        #expect(child.terminate())
        #expect(child.wait() == 0)
        let last = try #require(try store.steps().last)
        #expect(try store.open(step: last).verify().isValid)
        // As many steps are in the log as in the checkpoint: it was the very last one.
        let losses = try LocalStorage(root: folder.path + "/run").readAll("losses.csv", limit: 1 << 26)
        let lines = String(decoding: losses, as: UTF8.self).split(separator: "\n")
        #expect(lines.last?.split(separator: ",").first.map(String.init) == "\(last)")
    }

    /// Every resume is on other ranks, so the losses are those of the undisturbed run but for rounding.
    @Test func aKilledRunGoesOnOnWhateverRanksThereAre() throws {
        let folder = try TemporaryDirectory()
        let layouts = [
            ["--mesh", "tp=2,dp=2", "--zero"], ["--ranks", "3", "--zero"], ["--mesh", "dp=2,tp=2"], ["--mesh", "tp=2"],
            [],
        ]
        #expect(try Child(Self.small + ["--out", folder.path + "/whole"]).wait() == 0)
        let expected = try RunLosses(folder: folder.path + "/whole")
        let seed = UInt64.random(in: 0 ... .max)
        var generator = SeededGenerator(seed: seed)
        let wanted = Self.kills(12)
        var (kills, finished) = (0, 0)
        while kills < wanted || finished == 0 {
            let name = folder.path + "/killed-\(finished)"
            let layout = layouts.randomElement(using: &generator) ?? []
            let child = try Child(Self.small + layout + ["--out", name, "--resume"])
            if kills < wanted {
                try Self.waitForRandomMoment(of: child, in: name, &generator)
                if child.kill() { kills += 1 }
            }
            let result = child.wait()
            let store = CheckpointStore(path: name)
            for step in try store.steps() { _ = try store.load(step: step) }
            guard result == 0 else {
                #expect(result == -SIGKILL, "seed \(seed), \(layout)")
                continue
            }
            finished += 1
            let deviation = try RunLosses(folder: name).largestDeviation(from: expected)
            #expect(deviation.map { $0 < 1e-5 } == true, "seed \(seed): \(String(describing: deviation))")
        }
        print("any ranks: \(kills) kills, \(finished) runs compared")
    }
}
