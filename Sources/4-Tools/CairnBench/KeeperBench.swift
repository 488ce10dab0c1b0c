import Cairn
import CairnCheckpoint
import CairnKeeper
import CairnStorage

/// Saves to a keeper and loads from it, beside host memory and the disk: `cairn-bench --keeper`.
///
/// Every target keeps one checkpoint, so that from the third save on memory is used that was used before.
struct KeeperBench {
    let folder: String
    let rounds: Int

    private static let copy = "copy in memory"
    private static let keeperSave = "cairn save to a keeper"
    private static let keeperLoad = "cairn load from a keeper"
    private static let warmLoad = "cairn load from the disk, in the page cache"

    private static let peers = [("dcp", "torch.distributed.checkpoint"), ("orbax", "Orbax")]

    func run(_ state: TrainingState, peer: PeerProcess?) throws {
        if let peer { for (name, _) in Self.peers { _ = try peer.ask(name + "-save") } }
        let keeper = try Keeper(at: folder + "/keeper.sock", options: KeeperOptions(memory: state.byteCount * 4))
        defer { keeper.stop() }
        let kept = CheckpointStore(storage: try KeeperStorage(job: "bench", at: keeper.path), name: "keeper")
        let disk = CheckpointStore(path: folder + "/store")
        let memory = LocalStorage(root: "/dev/shm/cairn-bench")
        defer { if let left = try? memory.list("") { try? memory.delete(left.map(\.key)) } }
        let shared = CheckpointStore(storage: memory, name: "/dev/shm")
        let table = Table()
        let tensors = try state.names.map { try state.tensor($0) }
        let saves = [(Self.keeperSave, kept), ("cairn save to /dev/shm", shared), ("cairn save to the disk", disk)]
        for round in 0..<rounds + 2 {
            Table.note("round \(round + 1) of \(rounds + 2), of which two warm up")
            let step = round + 1
            if round >= 2 {
                try table.time(Self.copy) {
                    _ = try tensors.map { try Tensor($0.scalarType, $0.shape, copying: $0.bytes) }
                }
            }
            for (name, store) in saves {
                let save = {
                    try store.save(state, step: step)
                    _ = try store.prune(RetentionPolicy(keepLast: 1))
                }
                try round >= 2 ? table.time(name, save) : save()
            }
            guard round >= 2 else { continue }
            let files = try disk.open(step: step).manifest.files.map {
                folder + "/store/" + StepName.prefix(step) + $0.name
            }
            try table.time(Self.keeperLoad) { _ = try kept.load(step: step) }
            var mapped = LoadOptions()
            mapped.mapped = true
            try table.time("the same, mapped") { _ = try kept.load(step: step, options: mapped) }
            try PageCache.prepare(files, cold: false)
            try table.time(Self.warmLoad) { _ = try disk.load(step: step) }
            try PageCache.prepare(files, cold: true)
            try table.time("cairn load from the disk, not in the page cache") { _ = try disk.load(step: step) }
            guard let peer else { continue }
            for (name, title) in Self.peers {
                try table.record("\(title) load, in the page cache", peer.ask(name + "-load"))
                try table.record("\(title) load, not in the page cache", peer.ask(name + "-load-cold"))
            }
        }
        table.print(
            byteCount: state.byteCount,
            ratios: [
                (Self.keeperSave, Self.copy), (Self.keeperSave, "cairn save to /dev/shm"),
                (Self.keeperSave, "cairn save to the disk"), (Self.keeperLoad, Self.warmLoad),
                (Self.keeperLoad, "cairn load from the disk, not in the page cache"),
            ]
                + Self.peers.flatMap { peer in
                    ["in", "not in"].map { (Self.keeperLoad, "\(peer.1) load, \($0) the page cache") }
                })
    }
}
