import CairnBase
import CairnLayout
import CairnReshard
import Testing

/// The layouts of published models on large meshes, without any data.
@Suite struct SimulationTests {
    @Test(arguments: [
        ("gpt2", 124_439_808), ("gpt2-xl", 1_557_611_200), ("llama-7b", 6_738_415_616),
        ("llama-70b", 70_553_706_496), ("llama-405b", 405_853_388_800),
    ])
    func modelsHaveAsManyParametersAsPublished(name: String, count: Int) throws {
        #expect(try ModelShapes(named: name).parameterCount == count)
    }

    @Test func aModelWithExpertsHasATrillionParameters() throws {
        let count = try ModelShapes(named: "moe-1t").parameterCount
        #expect((1_020_000_000_000...1_030_000_000_000).contains(count), "\(count)")
    }

    @Test(arguments: [("gpt2", "tp=2,pp=3,dp=4"), ("moe-1t", "ep=8,tp=2,pp=4,dp=2"), ("llama-7b", "dp=8")])
    func ranksWriteEveryByteOnce(name: String, mesh: String) throws {
        let model = try ModelShapes(named: name)
        let state = try model.trainingState(on: DeviceMesh(parsing: mesh), zero: true)
        let save = try SaveSimulation(state)
        #expect(save.bytes.total == 14 * model.parameterCount)
        // Stages differ: the embedding is most of the first stage of a small model.
        #expect(save.bytes.imbalance < 2, "\(save.bytes)")
    }

    @Test func readingUnderAnotherLayoutNeedsNoMoreThanTheRanksHold() throws {
        let model = try ModelShapes(named: "gpt2")
        let saved = try SaveSimulation(model.trainingState(on: DeviceMesh(["dp": 4, "tp": 2]), zero: true))
        let wanted = try model.trainingState(on: DeviceMesh(["tp": 4]), zero: false)
        let read = try ReadSimulation(saved.index, tensors: wanted)
        #expect(read.rankCount == 4 && read.plannedRankCount == 4)
        #expect(read.needed.total >= 14 * model.parameterCount)
        #expect(read.read.total >= read.needed.total)
        #expect(read.files.maximum <= 8)
    }

    /// 126 layers on 16,384 ranks: a manifest that a save can afford to write and a load to read.
    @Test func theManifestOfALargeJobStaysSmall() throws {
        let mesh = try DeviceMesh(["tp": 8, "pp": 16, "dp": 128])
        let save = try SaveSimulation(ModelShapes(named: "llama-405b").trainingState(on: mesh, zero: true))
        #expect(save.rankCount == 16384)
        #expect(save.manifestByteCount < 10_000_000)
        #expect(save.bytes.imbalance < 1.2)
    }
}
