import Cairn
import Testing

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Real processes, really killed.
@Suite(.serialized) struct KilledRunTests {
    private static let kills = 25

    @Test(arguments: ["transformer", "mlp"])
    func aRunKilledAtRandomMomentsEndsAsIfNothingHadHappened(model: String) throws {
        let folder = try TemporaryFolder()
        var arguments = ["run", "--model", model, "--steps", "120", "--save-every", "2", "--width", "16", "--batch", "4"]
        arguments += ["--text", TemporaryFolder.repository + "/Fixtures/data/kjv.txt", "--context", "16"]
        arguments += ["--digits", TemporaryFolder.repository + "/Fixtures/data/digits.csv", "--layers", "1", "--heads", "2"]
        #expect(try Child(arguments + ["--out", folder.path + "/whole"]).wait() == 0)
        let expected = try CheckpointStore(path: folder.path + "/whole").load(step: 120)
        let losses = try LocalStorage(root: folder.path + "/whole").readAll("losses.csv", limit: 1 << 20)

        let seed = UInt64.random(in: 0 ... .max)
        var generator = SplitMixGenerator(state: seed)
        var (kills, insideRun, finished) = (0, 0, 0)
        while kills < Self.kills || finished == 0 {
            let name = folder.path + "/killed-\(finished)"
            let child = try Child(arguments + ["--out", name, "--resume"])
            // The last round is left alone, so that there is an end to compare.
            if kills < Self.kills {
                usleep(UInt32.random(in: 1_000...250_000, using: &generator))
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
                    insideRun += 1
                }
            }
        }
        print("\(model): \(kills) kills, \(insideRun) checkpoints found whole after them, \(finished) runs compared")
        #expect(insideRun > 0)
    }
}
