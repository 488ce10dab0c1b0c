import Cairn
import CairnBase
import CairnCheckpoint
import CairnInterop

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Compresses and expands the tensors of checkpoints in memory, chunk by chunk as a save and a load do, beside a copy of the
/// same bytes and beside what others do with them.
struct CompressionBench {
    let folder: String
    let rounds: Int

    /// A way to store chunks.
    private struct Way: Sendable {
        var name: String
        var codec: ChunkCodec
        var level = 1
    }

    private static let ways = [
        Way(name: "raw copy", codec: .raw), Way(name: "cairn .fast", codec: .exponentPlanes),
        Way(name: "cairn .zstd(1)", codec: .zstdPlanes), Way(name: "cairn .zstd(3)", codec: .zstdPlanes, level: 3),
    ]
    private static let peers = ["zipnn", "zstd1", "zstd3"]

    static func open(_ path: String) throws -> TrainingState {
        let formats: CheckpointFormats = [.cairn, .safetensors, .torch]
        return try TrainingState(reading: formats.open(path))
    }

    func run(_ paths: [String], peer: PeerProcess?) throws {
        for path in paths {
            let state = try Self.open(path)
            let table = RateTable()
            let chunks = MemoryChunks(state)
            let plain = PlainFile(folder: folder)
            if peer != nil { try plain.write(state) }
            let type = Self.commonType(state)
            for round in 0..<rounds {
                Table.note("\(path): round \(round + 1) of \(rounds)")
                for threads in [1, 2] {
                    for way in Self.ways {
                        let times = try chunks.time(way.codec, level: way.level, threads: threads)
                        table.note(way.name, threads, times, stored: chunks.storedByteCount)
                    }
                    for name in peer == nil ? [] : Self.peers where threads == 1 || name == "zipnn" {
                        guard let peer else { continue }
                        let into = try peer.ask("\(name) \(threads) in \(type) \(plain.path)")
                        let out = try peer.ask("\(name) \(threads) out \(type) \(plain.path)")
                        table.note(name, threads, (into.seconds, out.seconds), stored: into.memory)
                    }
                }
            }
            let name = path.split(separator: "/").last.map(String.init) ?? path
            print("\(name): \(state.tensors.count) tensors, most of them \(type), \(state.byteCount) bytes.\n")
            table.print(byteCount: state.byteCount)
        }
    }

    /// The type that takes most of the bytes.
    private static func commonType(_ state: TrainingState) -> ScalarType {
        var counts: [ScalarType: Int] = [:]
        for (_, tensor) in state.tensors { counts[tensor.scalarType, default: 0] += tensor.byteCount }
        return counts.max { ($0.value, $1.key.rawValue) < ($1.value, $0.key.rawValue) }?.key ?? .u8
    }

    /// A save of the weights of a checkpoint, repeated, with and without compression, beside plain files on the same device.
    func runSaves(_ paths: [String], megabytes: Int) throws {
        for path in paths {
            let once = try Self.open(path)
            var state = TrainingState()
            for copy in 0..<max(1, megabytes * 1_000_000 / max(1, once.byteCount)) {
                for (name, tensor) in once.tensors { state.set(tensor, for: "\(copy).\(name)") }
            }
            let table = Table()
            let plain = PlainFile(folder: folder)
            let direct = HardPlainFile(folder: folder, manner: .direct)
            let saves: [(name: String, compression: Compression)] = [
                ("cairn save", .none), ("cairn save, .fast", .fast), ("cairn save, .zstd(1)", .zstd(level: 1)),
            ]
            for round in 0..<rounds {
                Table.note("\(path): round \(round + 1) of \(rounds)")
                try table.time("plain write + fsync") { try plain.write(state) }
                if direct.isPossible {
                    try table.time("plain write, two threads, O_DIRECT + fsync") { try direct.write(state) }
                }
                for (index, save) in saves.enumerated() {
                    let store = CheckpointStore(path: folder + "/store-\(index)")
                    try table.time(save.name) {
                        try store.save(
                            state, step: 1, options: SaveOptions(compression: save.compression, replacing: true))
                    }
                    let files = try store.open(step: 1).manifest.files.map { folder + "/store-\(index)/step-00000001/" + $0.name }
                    try PageCache.prepare(files, cold: true)
                    try table.time(save.name.replacingSave) { _ = try store.load(step: 1) }
                }
            }
            table.print(
                byteCount: state.byteCount,
                ratios: [
                    ("cairn save", "plain write + fsync"), ("cairn save, .fast", "plain write + fsync"),
                    ("cairn save, .fast", "cairn save"), ("cairn save, .fast", "cairn save, .zstd(1)"),
                    ("cairn load, .fast", "cairn load"), ("cairn load, .fast", "cairn load, .zstd(1)"),
                ])
        }
    }
}

extension String {
    /// The row of the load that belongs to a save.
    fileprivate var replacingSave: String { replacing("cairn save", with: "cairn load") }

    private func replacing(_ old: String, with new: String) -> String { hasPrefix(old) ? new + dropFirst(old.count) : self }
}

/// The chunks of a state, with room for each as it is stored and as it is expanded: memory that has been touched before.
private final class MemoryChunks {
    private struct Chunk: Sendable {
        var tensor: Tensor
        var range: Range<Int>
        /// Where its room begins.
        var offset: Int
    }

    private static let chunkByteCount = SaveOptions().chunkByteCount

    private var chunks: [Chunk] = []
    private let stored: AlignedBuffer
    private let expanded: AlignedBuffer
    private(set) var storedByteCount = 0

    init(_ state: TrainingState) {
        var end = 0
        for (_, tensor) in state.tensors {
            for begin in stride(from: 0, to: tensor.byteCount, by: Self.chunkByteCount) {
                let range = begin..<min(tensor.byteCount, begin + Self.chunkByteCount)
                chunks.append(Chunk(tensor: tensor, range: range, offset: end))
                end += range.count
            }
        }
        stored = AlignedBuffer(byteCount: end)
        expanded = AlignedBuffer(byteCount: end)
        for buffer in [stored, expanded] { buffer.bytes.initializeMemory(as: UInt8.self, repeating: 1) }
    }

    /// Stores every chunk with its checksum, then verifies and expands every one.
    func time(_ codec: ChunkCodec, level: Int, threads: Int) throws -> (into: Double, out: Double) {
        let (work, stored, expanded) = (chunks, stored, expanded)
        let results = Monitor([(byteCount: Int, checksum: UInt32)](repeating: (0, 0), count: work.count))
        let start = ContinuousClock.now
        try ThreadPool.shared.forEach(work.count, width: threads) { index in
            let chunk = work[index]
            let room = Self.part(stored, chunk)
            let byteCount = chunk.tensor.bytes.extracting(chunk.range).withUnsafeBytes { bytes in
                let size = ChunkWorkspace.with {
                    ChunkCompression.compress(bytes, chunk.tensor.scalarType, codec, level: level, into: room, $0)
                }
                if size == nil { room.copyMemory(from: bytes) }
                return size ?? bytes.count
            }
            let checksum = CRC32C.checksum(UnsafeRawBufferPointer(rebasing: room[..<byteCount]).bytes)
            results.change { $0[index] = (byteCount, checksum) }
        }
        let middle = ContinuousClock.now
        let found = results.read { $0 }
        try ThreadPool.shared.forEach(work.count, width: threads) { index in
            let chunk = work[index]
            let bytes = UnsafeRawBufferPointer(rebasing: Self.part(stored, chunk)[..<found[index].byteCount])
            let target = Self.part(expanded, chunk)
            var isIntact = CRC32C.checksum(bytes.bytes) == found[index].checksum
            if bytes.count == target.count {
                target.copyMemory(from: bytes)
            } else {
                isIntact =
                    isIntact
                    && ChunkWorkspace.with { ChunkCompression.expand(bytes, chunk.tensor.scalarType, codec, into: target, $0) }
            }
            guard isIntact else { throw CairnError(.corrupted, "the bench's chunk") }
        }
        let end = ContinuousClock.now
        for chunk in work {
            let (plain, target) = (chunk.tensor.bytes.extracting(chunk.range), Self.part(expanded, chunk))
            let isSame = plain.withUnsafeBytes { bytes in
                guard let one = bytes.baseAddress, let other = target.baseAddress else { return false }
                return memcmp(one, other, target.count) == 0
            }
            guard isSame else { throw CairnError(.corrupted, "the bench's chunk") }
        }
        storedByteCount = found.reduce(0) { $0 + $1.byteCount }
        return ((middle - start) / .seconds(1), (end - middle) / .seconds(1))
    }

    private static func part(_ buffer: AlignedBuffer, _ chunk: Chunk) -> UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(rebasing: buffer.bytes[chunk.offset..<chunk.offset + chunk.range.count])
    }
}

/// Rates of going in and coming out, a row for each way and number of threads.
private final class RateTable {
    private struct Row {
        var name: String
        var threads: Int
        var into: [Double] = []
        var out: [Double] = []
        var stored = 0
    }

    private var rows: [Row] = []

    func note(_ name: String, _ threads: Int, _ seconds: (into: Double, out: Double), stored: Int) {
        let index = rows.firstIndex { $0.name == name && $0.threads == threads } ?? rows.count
        if index == rows.count { rows.append(Row(name: name, threads: threads)) }
        rows[index].into.append(seconds.into)
        rows[index].out.append(seconds.out)
        rows[index].stored = stored
    }

    /// Prints the rates as Markdown, and beside them the medians of the ratios within a round to zipnn's with as many threads.
    func print(byteCount: Int) {
        Swift.print("| way | threads | size | MB/s in | MB/s out | in / zipnn | out / zipnn |")
        Swift.print("| --- | --- | --- | --- | --- | --- | --- |")
        for row in rows.sorted(by: { $0.threads < $1.threads }) {
            let peer = rows.first { $0.name == "zipnn" && $0.threads == row.threads }
            func rate(_ seconds: [Double]) -> String { Table.fixed(Double(byteCount) / 1e6 / Table.median(seconds.sorted()), 0) }
            func ratio(_ seconds: [Double], _ others: [Double]?) -> String {
                guard let others, row.name != "zipnn" else { return "-" }
                return Table.fixed(Table.median(zip(seconds, others).map { $1 / $0 }.sorted()), 2)
            }
            Swift.print(
                "| \(row.name) | \(row.threads) | \(Table.fixed(Double(row.stored) / Double(byteCount), 4)) | "
                    + "\(rate(row.into)) | \(rate(row.out)) | \(ratio(row.into, peer?.into)) | \(ratio(row.out, peer?.out)) |")
        }
        Swift.print("")
    }
}
