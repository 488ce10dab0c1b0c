#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif
import CairnBase
import CairnCheckpoint
import CairnDelta
import CairnDigest
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

/// The committed deltas: every later version must apply them.
@Suite struct DeltaFixtureTests {
    private static let names = ["small-chunks.delta", "one-chunk.delta"]

    private func base() throws -> CairnReader {
        try CheckpointStore(path: Repository.fixture("cairn/v1")).open(step: 400)
    }

    private func changed<Element: BitwiseCopyable>(
        _ tensor: Tensor, as type: Element.Type, _ change: (Int, Element) -> Element
    ) throws -> Tensor {
        try Tensor(tensor.scalarType, tensor.shape) { span in
            span.withUnsafeMutableBytes { target in
                tensor.bytes.withUnsafeBytes { source in
                    for index in 0..<source.count / MemoryLayout<Element>.size {
                        let offset = index * MemoryLayout<Element>.size
                        let old = source.loadUnaligned(fromByteOffset: offset, as: Element.self)
                        target.storeBytes(of: change(index, old), toByteOffset: offset, as: Element.self)
                    }
                }
            }
        }
    }

    /// What the deltas make of the base, as Fixtures/cairn/README.md says it.
    private func result() throws -> TrainingState {
        let reader = try base()
        var state = TrainingState()
        for tensor in reader.tensors where tensor.tiedTo == nil && tensor.name != "mask" {
            var content = try reader.tensor(tensor.name)
            switch tensor.name {
            // Some numbers, by a bit or two, and gaps of more than a byte.
            case "model.ramp":
                content = try changed(content, as: UInt32.self) { $0 % 400 == 7 ? $1 &+ UInt32($0 % 3) &- 1 : $1 }
            // All numbers.
            case "model.norm.weight": content = try changed(content, as: UInt16.self) { $1 &+ UInt16($0 + 1) }
            // Every other one is quite another.
            case "größe.重み": content = try changed(content, as: UInt8.self) { $0 % 2 == 0 ? $1 : $1 &* 89 &+ UInt8($0 % 251) }
            default: break
            }
            state.set(content, for: tensor.name)
        }
        state.set(Tensor((0..<600).map { Float($0) / 3 }), for: "added")
        return state
    }

    @Test(arguments: names) func theFixtureAppliesAsItDidWhenItWasWritten(name: String) throws {
        let delta = try CheckpointDelta(path: Repository.fixture("cairn/delta/\(name)"))
        let summary = delta.summary
        #expect(summary.changedTensorCount == 3 && summary.newTensorCount == 1 && summary.removedTensorCount == 2)
        let patched = try delta.applied(to: base())
        #expect(try patched.verify(deep: true).isValid)
        for (tensor, content) in try result().tensors.map({ ($0.name, $0.tensor) }) {
            #expect(try patched.tensor(tensor) == content, "\(tensor)")
        }
        #expect(patched.values.contains { $0.name == "made" && $0.value == .string("a fixture") })
    }

    /// Writes deltas to be committed; see Fixtures/cairn/README.md.
    @Test(.enabled(if: getenv("CAIRN_FRESH_DELTAS") != nil)) func writesFreshOnes() throws {
        let path = try #require(getenv("CAIRN_FRESH_DELTAS").map { String(cString: $0) })
        var state = try result()
        for value in try base().values { state.set(value.value, for: value.name) }
        state.set(.string("a fixture"), for: "made")
        let store = CheckpointStore(storage: MemoryStorage(), name: "result")
        try store.save(state, step: 401)
        for (name, chunk) in zip(Self.names, [1000, 2 << 20]) {
            try CheckpointDelta.write(
                from: base(), to: store.open(step: 401), storage: LocalStorage(root: path), file: name,
                origins: (.init(source: "v1", step: 400), .init(source: "result", step: 401)), chunkByteCount: chunk)
        }
    }
}
