import CISAL
import Cairn
import CairnBase
import CairnCheckpoint
import CairnProtect
import CairnStorage

/// Parity beside copies of memory and beside ISA-L alone, saves with it beside saves without, repair beside plain input and
/// output: `cairn-bench --protection`.
struct ProtectionBench {
    let folder: String
    let rounds: Int

    private static let copy = "copy in memory, one thread"
    private static let xor = "exclusive or of 8 blocks, one thread"
    private static let isal = "ISA-L's ec_encode_data alone, 8 + 2, one thread"
    private static let code = "Cairn's 8 + 2, one thread"
    private static let save = "cairn save"
    private static let protectedSave = "cairn save with 8 + 2 parity"
    private static let protect = "cairn protect afterwards, reading the disk"
    private static let added = "plain write of a quarter of the bytes + fsync"
    private static let plain = "plain read and write + fsync"
    private static let repair = "cairn repair, two ranges of eight lost"
    private static let load = "cairn load"
    private static let repairedLoad = "cairn load, two ranges of eight rebuilt in memory"

    func run(_ state: TrainingState) throws {
        try runCode()
        let table = Table()
        let plainFile = PlainFile(folder: folder)
        let store = CheckpointStore(path: folder + "/store")
        let quarter = try BenchState.make(byteCount: state.byteCount / 4)
        let quarterFile = PlainFile(folder: folder + "/quarter")
        try LocalStorage(root: folder + "/quarter").publish([0], as: "begin")
        var options = SaveOptions()
        options.replacing = true
        for round in 0..<rounds {
            Table.note("round \(round + 1) of \(rounds)")
            try table.time(Self.save) { try store.save(state, step: 1, options: options) }
            try table.time(Self.added) { try quarterFile.write(quarter) }
            try table.time(Self.protectedSave) {
                try store.save(state, step: 2, options: options, protection: ProtectionOptions(parityCount: 2))
            }
            var later = ProtectionOptions(parityCount: 2, replacing: true)
            later.verifying = false
            try PageCache.prepare(files(store, step: 1), cold: true)
            try table.time(Self.protect) { try store.protect(step: 1, options: later) }
            try table.time(Self.plain) {
                try plainFile.write(state)
                try plainFile.read(state)
            }
            try PageCache.prepare(files(store, step: 2), cold: false)
            try table.time(Self.load) { _ = try store.load(step: 2) }
            try damage(store, step: 2)
            let order = RecoveryOrder([CheckpointTier("disk", store: store).repairedByParity()])
            try table.time(Self.repairedLoad) {
                guard try order.load()?.step == 2 else { throw CairnError(.corrupted, "the bench's checkpoint") }
            }
            try table.time(Self.repair) { try store.repair(step: 2) }
        }
        table.print(
            byteCount: state.byteCount,
            ratios: [
                (Self.protectedSave, Self.save), (Self.added, Self.save), (Self.protect, Self.save),
                (Self.repair, Self.plain), (Self.repairedLoad, Self.load),
            ])
    }

    private func files(_ store: CheckpointStore, step: Int) throws -> [String] {
        try store.open(step: step).manifest.files.map { folder + "/store/" + StepName.prefix(step) + $0.name }
    }

    /// Overwrites most of the second and of the fifth eighth of the rank file.
    private func damage(_ store: CheckpointStore, step: Int) throws {
        for path in try files(store, step: step) {
            let (storage, key) = try LocalStorage.locate(path)
            let byteCount = try storage.open(key).byteCount
            let eighth = byteCount / 8
            // Columns are whole blocks, so that they do not begin at just an eighth.
            let margin = eighth / 16
            for part in [1, 4] { try PageCache.overwrite(path, part * eighth + margin..<(part + 1) * eighth - margin) }
        }
    }

    /// The code alone, over memory that is larger than the caches: blocks of 256 KiB, as files are protected in.
    private func runCode() throws {
        let table = Table()
        let (dataCount, block, stripes) = (8, 256 << 10, 48)
        let byteCount = dataCount * block * stripes
        let buffers = (0..<stripes).map { _ in StripeBuffer(rowCount: dataCount + 2, blockByteCount: block) }
        let copies = (0..<stripes).map { _ in StripeBuffer(rowCount: dataCount, blockByteCount: block) }
        for (number, buffer) in buffers.enumerated() {
            for row in 0..<dataCount + 2 {
                buffer.write(row: row) { bytes in
                    for place in bytes.indices { bytes[place] = UInt8(truncatingIfNeeded: place &* 31 &+ number &+ row) }
                }
            }
        }
        for copy in copies { for row in 0..<dataCount { copy.clear(row: row, 0..<block) } }
        let xor = try ErasureCode(dataCount: dataCount, parityCount: 1).encoding
        let code = try ErasureCode(dataCount: dataCount, parityCount: 2).encoding
        var matrix = [UInt8](repeating: 0, count: (dataCount + 2) * dataCount)
        var tables = [UInt8](repeating: 0, count: 32 * dataCount * 2)
        gf_gen_cauchy1_matrix(&matrix, Int32(dataCount + 2), Int32(dataCount))
        matrix.withUnsafeMutableBufferPointer { matrix in
            let rows = matrix.baseAddress.map { $0 + dataCount * dataCount }
            ec_init_tables(Int32(dataCount), 2, rows, &tables)
        }
        for round in 0..<rounds * 2 {
            Table.note("code, round \(round + 1) of \(rounds * 2)")
            try table.timeWarm(Self.copy) {
                for (from, to) in zip(buffers, copies) {
                    for row in 0..<dataCount {
                        to.write(row: row) { target in
                            target.copyMemory(from: UnsafeRawBufferPointer(start: from.base(ofRow: row), count: block))
                        }
                    }
                }
            }
            try table.timeWarm(Self.xor) { for buffer in buffers { xor.apply(to: buffer, byteCount: block) } }
            try table.timeWarm(Self.isal) {
                for buffer in buffers {
                    var sources = (0..<dataCount).map { Optional(buffer.base(ofRow: $0)) }
                    var targets = (dataCount..<dataCount + 2).map { Optional(buffer.base(ofRow: $0)) }
                    ec_encode_data(Int32(block), Int32(dataCount), 2, &tables, &sources, &targets)
                }
            }
            try table.timeWarm(Self.code) { for buffer in buffers { code.apply(to: buffer, byteCount: block) } }
        }
        table.print(
            byteCount: byteCount, ratios: [(Self.copy, Self.xor), (Self.isal, Self.code)])
    }
}
