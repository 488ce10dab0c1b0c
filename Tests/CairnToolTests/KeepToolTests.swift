import CairnBase
import CairnCheckpoint
import CairnKeeper
import CairnTensor
import CairnTesting
import Testing

@Suite struct Keep {
    /// A keeper with a job that has steps 1 and 2.
    private static func keeper(at path: String) throws -> Keeper {
        let keeper = try Keeper(at: path, options: KeeperOptions(memory: 16 << 20))
        let store = CheckpointStore(storage: try KeeperStorage(job: "kjv", at: path), name: "keeper")
        for step in 1...2 {
            var state = TrainingState()
            state.set(Tensor([Float(step)]), for: "weight")
            try store.save(state, step: step)
        }
        return keeper
    }

    @Test func theStatusNamesJobsAndSteps() throws {
        let directory = try TemporaryDirectory()
        let keeper = try Self.keeper(at: directory.path("keeper"))
        defer { keeper.stop() }
        let text = try ToolRun("keep", "status", "--socket", keeper.path, in: directory)
        #expect(text.exitCode == 0 && text.output.contains("kjv (user "))
        #expect(text.output.contains("step 1, 2"))
        let document = try ToolRun("keep", "status", "--socket", keeper.path, "--json", in: directory).document()
        #expect(try document.string("schema") == "cairn-keeper-status/1")
        let job = try #require(try document.array("jobs").first).asObject()
        #expect(try job.array("steps") == [.integer(1), .integer(2)])
        let metrics = try ToolRun("keep", "status", "--socket", keeper.path, "--metrics", in: directory)
        #expect(metrics.output.contains("# TYPE cairn_keeper_used_bytes gauge\n"))
    }

    @Test func theNewestCheckpointIsDrainedToARun() throws {
        let directory = try TemporaryDirectory()
        let keeper = try Self.keeper(at: directory.path("keeper"))
        defer { keeper.stop() }
        let run = try ToolRun("keep", "drain", "kjv", "--to", "run", "--socket", keeper.path, in: directory)
        #expect(run.exitCode == 0 && run.output == "copied step 2 to run\n")
        let state = try CheckpointStore(path: directory.path("run")).load(step: 2)
        #expect(try state.tensor("weight").elements(as: Float.self) == [2])
        let none = try ToolRun("keep", "drain", "other", "--to", "run", "--socket", keeper.path, in: directory)
        #expect(none.exitCode == 2 && none.errors.contains("cairn keep status"))
    }

    @Test func aKeeperThatIsNotThereIsSaidInOneLine() throws {
        let directory = try TemporaryDirectory()
        let run = try ToolRun("keep", "status", "--socket", "nowhere", in: directory)
        #expect(run.exitCode == 2 && run.errors.contains("cairn keep"))
        let wrong = try ToolRun("keep", "--socket", "nowhere", "--memory", "much", in: directory)
        #expect(wrong.exitCode == 64 && wrong.errors.contains("64GiB"))
    }

    @Test func aMemberOfAGroupHasAKeyOfItsOwn() throws {
        let directory = try TemporaryDirectory()
        let made = try ToolRun("keep", "key", "-o", "a.key", in: directory)
        #expect(made.exitCode == 0 && made.output.utf8.count == 41)
        // A key that is there is not lost.
        #expect(try ToolRun("keep", "key", "-o", "a.key", in: directory).exitCode != 0)
        let document = try ToolRun("keep", "key", "-o", "b.key", "--json", in: directory).document()
        #expect(try document.string("public_key").utf8.count == 40)
        let alone = try ToolRun("keep", "--memory", "1MiB", "--group", "group.json", "--socket", "keeper", in: directory)
        #expect(alone.exitCode == 64 && alone.errors.contains("belong together"))
        let missing = try ToolRun(
            "keep", "--memory", "1MiB", "--group", "group.json", "--member", "a", "--key", "a.key", "--socket", "keeper",
            in: directory)
        #expect(missing.exitCode == 2 && missing.errors.contains("group.json"))
    }

    @Test func failuresOfAJobAreSimulated() throws {
        let directory = try TemporaryDirectory()
        let run = try ToolRun(
            "simulate", "failures", "--ranks", "1024", "--host-rate", "1e-4", "--memory", "0.5,8,90", "--parity", "6+2",
            "--remote", "20,600,900", "--days", "3", "--json", in: directory)
        let document = try run.document()
        #expect(try document.string("schema") == "cairn-simulate-failures/1")
        #expect(try document.integer("hosts") == 128)
        let unmet = try ToolRun(
            "simulate", "failures", "--ranks", "8", "--remote", "20,600", "--host-rate", "1", in: directory)
        #expect(unmet.exitCode == 64)
    }
}
