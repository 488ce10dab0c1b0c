import Cairn
import CairnCheckpoint
import CairnTesting
import Testing

/// Runs that are resumed from a store with damaged checkpoints, on one rank and on many.
@Suite struct DamagedRunTests {
    private static let small = [
        "run", "--steps", "8", "--save-every", "4", "--width", "16", "--batch", "4", "--context", "16",
        "--layers", "1", "--heads", "2", "--text", Repository.fixture("data/kjv.txt"),
    ]

    private func contents(_ store: CheckpointStore) throws -> [String: [UInt8]] {
        var contents: [String: [UInt8]] = [:]
        for entry in try store.storage.list("step-") { contents[entry.key] = try store.storage.readAll(entry.key) }
        return contents
    }

    private func damage(_ store: CheckpointStore, step: Int) throws {
        let key = StepName.prefix(step) + (try store.open(step: step).manifest.files.last?.name ?? "")
        var bytes = try store.storage.readAll(key)
        bytes[bytes.count - 1] ^= 1
        try store.storage.publish(bytes, as: key)
    }

    @Test(arguments: [[], ["--mesh", "dp=2"]])
    func aDamagedNewestIsTrainedAgainAndKeptAndWithNothingReadableTheRunStops(layout: [String]) throws {
        let folder = try TemporaryDirectory()
        let arguments = Self.small + layout + ["--out", folder.path + "/run"]
        #expect(try Child(arguments).wait() == 0)
        let store = CheckpointStore(path: folder.path + "/run")
        let whole = try store.load(step: 8)
        try damage(store, step: 8)
        // How the save went is not part of the checkpoint, and told anew of each.
        let old = try contents(store).filter { $0.key.hasPrefix("step-00000008/") && !$0.key.hasSuffix("timeline.json") }
        #expect(try Child(arguments + ["--resume"]).wait() == 0)
        #expect(try store.load(step: 8) == whole, "the same bits again")
        let kept = try contents(store).values
        for (key, bytes) in old { #expect(kept.contains(bytes), "\(key) is lost") }
        for step in [4, 8] { try damage(store, step: step) }
        let before = try contents(store)
        #expect(try Child(arguments + ["--resume"]).wait() != 0)
        // All of it is still there; what the restart found stands beside it.
        var after = try contents(store)
        for step in [4, 8] {
            #expect(after.removeValue(forKey: StepName.prefix(step) + StepName.quarantineName) != nil)
        }
        #expect(after == before)
    }

    @Test(arguments: [[], ["--mesh", "dp=2"]])
    func aDamagedNewestIsContinuedFromAsParityGivesItAndBeyondFromTheOlder(layout: [String]) throws {
        let folder = try TemporaryDirectory()
        let arguments = Self.small + layout + ["--parity", "2", "--out", folder.path + "/run"]
        #expect(try Child(arguments).wait() == 0)
        let store = CheckpointStore(path: folder.path + "/run")
        let state = try store.load(step: 8)
        let whole = try contents(store)
        #expect(whole.keys.filter { $0.contains("/parity-") }.count == 4)
        try damage(store, step: 8)
        let damaged = try contents(store)
        // Nothing is left to train, and nothing is written.
        #expect(try Child(arguments + ["--resume"]).wait() == 0)
        #expect(try contents(store) == damaged)
        #expect(try Child(arguments + ["--resume", "--write-back"]).wait() == 0)
        #expect(try contents(store) == whole)
        // Both ranks' files are as many as there is parity.
        let parity = try #require(try store.storage.list(StepName.prefix(8) + "parity").first)
        try store.storage.delete([parity.key])
        for file in try store.open(step: 8).manifest.files {
            let key = StepName.prefix(8) + file.name
            try store.storage.publish([UInt8](repeating: 1, count: file.byteCount), as: key)
        }
        #expect(try Child(arguments + ["--resume"]).wait() == 0)
        #expect(try store.load(step: 8) == state, "the same bits again, from step 4")
        #expect(try !store.setAside(step: 8).isEmpty)
    }
}
