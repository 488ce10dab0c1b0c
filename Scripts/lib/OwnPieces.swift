// What a package that depends on Cairn can make itself, with public declarations alone: a storage, a format with its reader and
// writer, a view and a communicator. Scripts/check-embedder builds and runs it.

import Cairn
import CairnCheckpoint
import CairnStorage
import CairnTensor
import CairnCommunication

// MARK: - A storage

/// Keeps everything in memory, and counts the commits.
final class CountedStorage: Storage {
    private let inner = MemoryStorage()

    func open(_ key: String) throws(CairnError) -> any StorageFile { CountedFile(try inner.open(key)) }
    func create(_ key: String, byteCount: Int?) throws(CairnError) -> any StorageWriter {
        CountedWriter(try inner.create(key, byteCount: byteCount))
    }
    func publish(_ bytes: [UInt8], as key: String) throws(CairnError) { try inner.publish(bytes, as: key) }
    func list(_ prefix: String) throws(CairnError) -> [StorageEntry] {
        try inner.list(prefix).filter { !$0.isTemporary }.map {
            StorageEntry(key: $0.key, byteCount: $0.byteCount, modified: $0.modified)
        }
    }
    func delete(_ keys: [String]) throws(CairnError) { try inner.delete(keys) }
    var distinction: Distinction? { inner.distinction }
}

final class CountedFile: StorageFile {
    private let inner: any StorageFile

    init(_ inner: any StorageFile) { self.inner = inner }

    var key: String { inner.key }
    var byteCount: Int { inner.byteCount }
    func read(at offset: Int, into destination: inout MutableRawSpan) throws(CairnError) {
        try inner.read(at: offset, into: &destination)
    }
    func map() throws(CairnError) -> MemoryMapping? { nil }
}

final class CountedWriter: StorageWriter {
    private let inner: any StorageWriter

    init(_ inner: any StorageWriter) { self.inner = inner }

    var key: String { inner.key }
    func write(_ bytes: RawSpan, at offset: Int) throws(CairnError) { try inner.write(bytes, at: offset) }
    func startWriteback(at offset: Int, byteCount: Int) {}
    func finish(byteCount: Int) throws(CairnError) { try inner.finish(byteCount: byteCount) }
    func discard() { inner.discard() }
}

// MARK: - A format

/// One vector of F32 a file: a mark, and the elements.
enum VectorFile {
    static let mark = Array("VECTOR\n\n".utf8)
}

extension CheckpointFormat {
    static let vector = CheckpointFormat(
        name: "vector", title: "a vector", kinds: [.file],
        recognise: { contents throws(CairnError) in
            try contents.begins(with: VectorFile.mark) ? Claim(contents.path) : nil
        },
        open: { path, _ in Opening(try VectorReader(path: path)) })
}

struct VectorReader: CheckpointReader {
    let format = "vector"
    let source: String
    let tensors: [TensorDescription]
    let values: [NamedValue] = []
    private let file: any StorageFile

    init(path: String) throws(CairnError) {
        file = try LocalStorage(root: ".").open(path)
        source = path
        let count = (file.byteCount - VectorFile.mark.count) / 4
        guard count >= 0, try file.bytes(in: 0..<VectorFile.mark.count) == VectorFile.mark else {
            throw CairnError(.malformed, "the file is not a vector", .init(file: path))
        }
        tensors = [TensorDescription(name: "vector", scalarType: .f32, shape: try Shape(checking: [count]))]
    }

    func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        let tensor = try description(of: name)
        guard region.isInside(tensor.shape), destination.byteCount == region.elementCount * 4 else {
            throw CairnError(.mismatch, "the region lies outside", .init(file: source, tensor: name))
        }
        try file.read(at: VectorFile.mark.count + region.offsets[0] * 4, into: &destination)
    }

    func storedPieces(of name: String, in region: Region?) throws(CairnError) -> [StoredPiece]? {
        let tensor = try description(of: name)
        return [StoredPiece(region: Region(whole: tensor.shape), file: source, scalarType: .f32)]
    }

    func verify(deep: Bool, progress: @escaping @Sendable (Int) throws -> Void) throws -> VerificationReport {
        var report = VerificationReport()
        report.fileCount = 1
        if (file.byteCount - VectorFile.mark.count) % 4 != 0 {
            report.damages.append(.init(error: CairnError(.malformed, "half an element", .init(file: source))))
        }
        return report
    }
}

final class VectorWriter: CheckpointWriter {
    private let path: String
    private var file: (any StorageWriter)?
    private var end = 0

    init(path: String) { self.path = path }

    func begin(tensors: [TensorDescription], values: [NamedValue]) throws -> [String] {
        guard tensors.count == 1, let vector = tensors.first, vector.scalarType == .f32 else {
            throw CairnError(.unsupported, "the format holds one vector of F32", .init(file: path))
        }
        file = try LocalStorage(root: ".").create(path, byteCount: VectorFile.mark.count + vector.byteCount)
        try file?.write(VectorFile.mark, at: 0)
        end = VectorFile.mark.count
        return values.map { "the value \($0.name) is left out" }
    }

    func append(_ bytes: RawSpan) throws {
        try file?.write(bytes, at: end)
        end += bytes.byteCount
    }

    func finish() throws { try file?.finish(byteCount: end) }

    func discard() { file?.discard() }
}

// MARK: - A view

/// Another checkpoint, of which every tensor has one name less.
struct Shortened: CheckpointView {
    let base: any CheckpointReader
    let tensors: [TensorDescription]
    var values: [NamedValue] { base.values }

    init(_ base: any CheckpointReader) {
        self.base = base
        tensors = base.tensors.map {
            TensorDescription(name: "x." + $0.name, scalarType: $0.scalarType, shape: $0.shape)
        }
    }

    func baseName(of name: String) throws(CairnError) -> String? { String(name.dropFirst(2)) }
}

// MARK: - A communicator

/// A job of one rank.
final class LonelyRank: Communicator {
    let rank = 0
    let size = 1

    func barrier() {}
    func broadcast(_ buffer: UnsafeMutableRawBufferPointer, from root: Int) {}
    func allReduceSum(_ values: UnsafeMutableBufferPointer<Float>) {}
    func allReduceSum(_ values: UnsafeMutableBufferPointer<Double>) {}
    func reduceScatterSum(_ values: UnsafeMutableBufferPointer<Float>, counts: [Int]) {}
    func reduceScatterSum(_ values: UnsafeMutableBufferPointer<Double>, counts: [Int]) {}
    func allGather(_ buffer: UnsafeMutableRawBufferPointer, counts: [Int]) {}
    func gather(_ message: [UInt8], at root: Int) -> [[UInt8]]? { [message] }
    func broadcast(message: [UInt8]?, from root: Int) -> [UInt8] { message ?? [] }
    func send(_ buffer: UnsafeRawBufferPointer, to rank: Int, tag: Int) throws(CairnError) { throw nobody }
    func receive(_ buffer: UnsafeMutableRawBufferPointer, from rank: Int, tag: Int) throws(CairnError) { throw nobody }
    func split(color: Int, key: Int) -> any Communicator { LonelyRank() }
    func fail(_ error: CairnError) {}

    private var nobody: CairnError { CairnError(.unsupported, "there is no other rank") }
}

// MARK: - All of them

/// Saves over the own storage, by the own communicator, and takes the tensor through the own format and view.
func useOwnPieces() throws {
    let store = CheckpointStore(storage: CountedStorage(), name: "own")
    let mesh = try DeviceMesh(["dp": 1])
    let placed = PlacedTensor(name: "vector", scalarType: .f32, shape: [3], layout: .replicated(on: mesh))
    var state = try ShardedState(rank: 0, rankCount: 1, tensors: [placed])
    try state.set(Tensor([0.5, -1, 2] as [Float]), for: "vector")
    try ShardedStore(store, over: LonelyRank()).save(state, step: 1)

    _ = try copyCheckpoint(from: store.open(step: 1), to: VectorWriter(path: "own.vector"))
    let formats: CheckpointFormats = [.cairn, .safetensors, .vector]
    let view = Shortened(try formats.open("own.vector"))
    let loaded = try TrainingState(reading: view).tensor("x.vector").elements(as: Float.self)
    let report = try view.verify(deep: true) { _ in }
    guard loaded == [0.5, -1, 2], report.isValid else { throw CairnError(.mismatch, "the own pieces lose something") }
}
