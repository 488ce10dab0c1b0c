import CairnBase
import CairnCheckpoint
import CairnTensor
import CairnTesting
import Testing

/// Which checkpoint was made from which.
@Suite struct LineageCommandTests {
    @discardableResult
    private func save(
        _ directory: TemporaryDirectory, _ run: String, _ step: Int, _ operation: String = "training",
        of parents: [Lineage.Parent] = []
    ) throws -> Lineage.Parent {
        var options = SaveOptions()
        options.lineage = Lineage(operation: operation, parents: parents)
        options.metrics = ["loss": Double(step)]
        var state = TrainingState()
        state.set(Tensor([Float(step)]), for: "w")
        let store = CheckpointStore(path: directory.path("runs/\(run)"))
        let manifest = try store.save(state, step: step, options: options)
        return .init(step: step, saveID: manifest.saveID, source: "runs/\(run)")
    }

    @Test func aRunIsOneLineUntilSomethingBranchesOff() throws {
        let directory = try TemporaryDirectory()
        try save(directory, "kjv", 10)
        let middle = try save(directory, "kjv", 20)
        // Resumed: names what it continued from, as all that follow in the process do.
        let next = try save(directory, "kjv", 30, of: [middle])
        let last = try save(directory, "kjv", 40, of: [middle])
        let branch = try save(directory, "decayed", 20, "branching", of: [middle])
        try save(directory, "decayed", 25, of: [branch])
        try save(directory, "decayed", 30, of: [branch])
        var (first, second) = (next, last)
        (first.coefficient, second.coefficient) = (0.25, 0.75)
        try save(directory, "mean", 40, "average", of: [first, second])
        try save(directory, "lost", 7, "conversion", of: [.init(step: 3, saveID: SaveID(), source: "gone")])
        let run = try ToolRun("lineage", "runs", in: directory)
        #expect(run.exitCode == 0)
        #expect(
            run.output.split(separator: "\n") == [
                "runs/kjv@10 … @20  training, 2 checkpoints  loss=20",
                "├─ runs/decayed@20  branching  loss=20",
                "│  └─ runs/decayed@25 … @30  training, 2 checkpoints  loss=30",
                "└─ runs/kjv@30  training  loss=30",
                "   ├─ runs/kjv@40  training  loss=40",
                "   └─ runs/mean@40  average of runs/kjv@30 ×0.25, runs/kjv@40 ×0.75  loss=40",
                "runs/lost@7  conversion of gone@3 (not here)  loss=7",
            ], "\(run.output)")
        let document = try ToolRun("lineage", "runs/kjv", "runs/mean", "--json", in: directory).document()
        #expect(try document.string("schema") == "cairn-lineage/1")
        let rows = try document.array("checkpoints").map { try $0.asObject() }
        #expect(try rows.map { try $0.integer("step") } == [10, 20, 30, 40, 40])
        #expect(try rows[4].array("parents").map { try $0.asObject().string("store") } == ["runs/kjv", "runs/kjv"])
        #expect(try rows[3].object("follows").integer("step") == 30)
    }

    @Test func aLineageThatGoesInCirclesIsDrawnAllTheSame() throws {
        let directory = try TemporaryDirectory()
        let ids = [SaveID(), SaveID()]
        for step in 0..<2 {
            var options = SaveOptions()
            options.saveID = ids[step]
            options.lineage = Lineage(operation: "average", parents: [.init(saveID: ids[1 - step])])
            var state = TrainingState()
            state.set(Tensor([Float(1)]), for: "w")
            try CheckpointStore(path: directory.path("run")).save(state, step: step, options: options)
        }
        let run = try ToolRun("lineage", "run", in: directory)
        #expect(run.exitCode == 0)
        #expect(run.output.split(separator: "\n").count == 2)
    }

    @Test func whatIsNoRunIsRefused() throws {
        let directory = try TemporaryDirectory()
        #expect(try ToolRun("lineage", ".", in: directory).failedInOneLine)
        #expect(try ToolRun("lineage", "nowhere", in: directory).failedInOneLine)
    }
}
