import CairnBase
import CairnCheckpoint
import CairnTensor
import Synchronization
import Testing

/// Reading ahead of the writer.
@Suite struct CheckpointCopyTests {
    private struct Failure: Error {}

    /// Tensors whose bytes say where they stand; reading one of them may fail.
    private struct Source: CheckpointReader {
        let format = "test"
        let source = "test"
        let tensors: [TensorDescription]
        let values: [NamedValue] = []
        var failing: String?

        func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
            if name == failing { throw CairnError(.corrupted, "damaged", .init(tensor: name)) }
            let start = region.offsets.first ?? 0
            destination.withUnsafeMutableBytes { bytes in
                for index in bytes.indices { bytes[index] = UInt8(truncatingIfNeeded: start + index) }
            }
        }
    }

    private final class Sink: CheckpointWriter {
        var bytes: [UInt8] = []
        var isFinished = false
        var isDiscarded = false
        var limit = Int.max

        func begin(tensors: [TensorDescription], values: [NamedValue]) throws -> [String] { ["a note"] }

        func append(_ part: RawSpan) throws {
            guard bytes.count + part.byteCount <= limit else { throw Failure() }
            part.withUnsafeBytes { bytes += $0 }
        }

        func finish() throws { isFinished = true }
        func discard() { isDiscarded = true }
    }

    private func source(_ sizes: [Int], failing: String? = nil) -> Source {
        Source(
            tensors: sizes.enumerated().map { .init(name: "t\($0)", scalarType: .u8, shape: [$1]) }, failing: failing)
    }

    @Test(arguments: [1, 7, 64, 1000, 1 << 20])
    func everyByteComesOnceAndInOrder(bufferByteCount: Int) throws {
        let sizes = [5, 300, 0, 1, 64, 999]
        let sink = Sink()
        var calls: [Int] = []
        let notes = try copyCheckpoint(from: source(sizes), to: sink, bufferByteCount: bufferByteCount) { written, total in
            #expect(total == sizes.reduce(0, +))
            calls.append(written)
        }
        #expect(notes == ["a note"])
        #expect(sink.bytes == sizes.flatMap { size in (0..<size).map { UInt8(truncatingIfNeeded: $0) } })
        #expect(sink.isFinished && !sink.isDiscarded)
        #expect(calls == calls.sorted() && calls.last == sizes.reduce(0, +))
    }

    @Test(arguments: ["t0", "t3", "t9"])
    func anErrorOfTheReaderEndsTheCopy(name: String) throws {
        let sink = Sink()
        let error = #expect(throws: CairnError.self) {
            _ = try copyCheckpoint(
                from: source([Int](repeating: 50, count: 10), failing: name), to: sink, bufferByteCount: 16)
        }
        #expect(error?.context.tensor == name)
        #expect(sink.isDiscarded && !sink.isFinished)
    }

    @Test(arguments: [0, 1, 100, 499])
    func anErrorOfTheWriterEndsTheCopy(limit: Int) throws {
        let sink = Sink()
        sink.limit = limit
        #expect(throws: Failure.self) {
            _ = try copyCheckpoint(from: source([Int](repeating: 50, count: 10)), to: sink, bufferByteCount: 16)
        }
        #expect(sink.isDiscarded && !sink.isFinished)
    }

    @Test func whatIsLeftOfANestedStateKeepsItsPlaces() throws {
        let state: StateNode = .dictionary([
            .init(
                key: "model",
                node: .dictionary([
                    .init(key: "a", node: .tensor("model.a")), .init(key: "b", node: .tensor("model.b")),
                ])),
            .init(key: "list", node: .list([.tensor("list.0"), .value(5)])),
            .init(key: "step", node: .value(3)),
        ])
        let left = state.selecting(tensor: { $0 != "model.a" && $0 != "list.0" }, value: { $0 != "step" })
        guard case .dictionary(let members) = left, members.count == 2, case .dictionary(let model) = members[0].node,
            case .list(let list) = members[1].node, case .value(.null) = list[0], case .value(5) = list[1]
        else {
            Issue.record("\(left)")
            return
        }
        #expect(model.map(\.key) == ["b"])
    }
}
