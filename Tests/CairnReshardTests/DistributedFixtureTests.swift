import CairnBase
import CairnCheckpoint
import CairnInterop
import CairnLayout
import CairnReshard
import CairnStorage
import CairnTensor
import CairnTesting
import Foundation
import Testing

/// A checkpoint that PyTorch wrote with four ranks, loaded under layouts that PyTorch loaded it under too: the local
/// tensors are those of `torch.distributed.checkpoint.load`, bit for bit.
@Suite struct DistributedFixtureTests {
    static let layouts = ["w1_full", "w2_tp2", "w2_pp2", "w3_uneven_fsdp", "w8_fsdp4_tp2"]

    private let folder = Repository.fixture("reshard/tp2xdp2_to_many")

    private func reader() throws -> DistributedCheckpointReader {
        try DistributedCheckpointReader(storage: LocalStorage(root: folder + "/checkpoint"), source: "fixture")
    }

    /// The tensors of a target as its ranks describe them: `S(d)` is a chunked dimension, `R` a replica; a tensor that some
    /// ranks do not list is on the others only.
    private func tensors(of layout: String) throws -> [PlacedTensor] {
        let text = try String(contentsOfFile: folder + "/truth/truth.json", encoding: .utf8)
        let target = try JSONValue(parsing: text).asObject().object("layouts").object(layout)
        let ranks = try target.array("ranks").map { try $0.asObject() }
        let extents = try target.array("mesh").map { try $0.asInteger() }
        let mesh = try DeviceMesh(axes: extents.enumerated().map { .init("axis\($0)", $1) })
        var placed: [PlacedTensor] = []
        for name in Set(ranks.flatMap { $0.members.map(\.key) }).sorted() {
            let holders = ranks.indices.filter { ranks[$0][name] != nil }
            guard let entry = try ranks[holders[0]][name]?.asObject(),
                let type = ScalarType(rawValue: try entry.string("dtype"))
            else { throw CairnError(.malformed, "the fixture's truth", .init(tensor: name)) }
            var steps: [Layout.Step] = []
            if holders.count < ranks.count { steps.append(.init("axis0", .present(on: holders))) }
            // Stages of a pipeline hold their tensors whole, and say no more of them.
            for (axis, placement) in try (entry["placements"]?.asArray() ?? []).enumerated() {
                let text = try placement.asString()
                guard text.hasPrefix("S("), let dimension = Int(text.dropFirst(2).dropLast()) else { continue }
                steps.append(.init("axis\(axis)", .shard(dimension, .chunked)))
            }
            placed.append(
                PlacedTensor(
                    name: name, scalarType: type,
                    shape: try Shape(checking: entry.array("global_shape").map { try $0.asInteger() }),
                    layout: try Layout(mesh, steps: steps)))
        }
        return placed
    }

    /// Loads every rank from a checkpoint and compares it with what PyTorch loaded; returns how many tensors were.
    private func check(_ reader: any CheckpointReader, _ layout: String) throws -> Int {
        let tensors = try tensors(of: layout)
        var count = 0
        for rank in 0..<(tensors[0].layout.mesh.rankCount) {
            let expected = try SafeTensorsReader(path: folder + "/expected/\(layout)/rank\(rank).safetensors")
            let loaded = try ShardedState(reading: reader, rank: rank, tensors: tensors)
            for tensor in tensors {
                let local = loaded.local(tensor.name)
                guard expected.tensors.contains(where: { $0.name == tensor.name }) else {
                    #expect(local == nil, "\(tensor.name) of rank \(rank)")
                    continue
                }
                #expect(try local == expected.tensor(tensor.name), "\(tensor) of rank \(rank)")
                count += 1
            }
        }
        return count
    }

    @Test(arguments: layouts)
    func everyShardIsTheOneThatPyTorchLoads(layout: String) throws {
        #expect(try check(reader(), layout) > 150)
    }

    @Test(arguments: layouts)
    func theSameComesFromACheckpointThatWasReshardedFirst(layout: String) throws {
        let store = CheckpointStore(storage: MemoryStorage(), name: "memory")
        for (step, source) in ["w8_fsdp4_tp2", "w3_uneven_fsdp"].enumerated() {
            let manifest = try Resharder(reading: reader(), tensors: tensors(of: source)).write(to: store, step: step)
            #expect(manifest.files.count == (step == 0 ? 8 : 3))
            #expect(try check(store.open(step: step), layout) > 150)
        }
    }
}
