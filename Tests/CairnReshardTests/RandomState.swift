import CairnBase
import CairnCheckpoint
import CairnLayout
import CairnLayoutTesting
import CairnTensor

/// A random state on random meshes: the whole tensors, and what each rank holds by the oracle, element by element.
struct RandomState {
    /// Every tensor with its layout.
    var tensors: [PlacedTensor] = []
    /// The tensors as a checkpoint stores them: whole, or the partial values stacked.
    var whole: [String: Tensor] = [:]
    let rankCount: Int

    /// A state of a few tensors.
    init(
        _ layouts: inout RandomLayouts, rankCount: Int, maximumElementCount: Int = 600,
        tensorCount: ClosedRange<Int> = 1...5
    ) throws {
        self.rankCount = rankCount
        for index in 0..<layouts.random.pick(tensorCount) {
            let mesh = try layouts.mesh(rankCount: rankCount)
            let tensor = try layouts.tensor("tensor.\(index)", on: mesh, maximumElementCount: maximumElementCount)
            tensors.append(tensor)
            let partials = try tensor.sharded().partialCount
            let extents = Self.isPartial(tensor.layout) ? [partials] + tensor.shape.extents : tensor.shape.extents
            whole[tensor.name] = try Self.randomTensor(tensor.scalarType, Shape(extents), &layouts.random)
        }
    }

    /// The same tensors under other layouts, on another number of ranks. Partial values stay what they are: a stack.
    init(of other: RandomState, _ layouts: inout RandomLayouts, rankCount: Int) throws {
        self.rankCount = rankCount
        whole = other.whole
        for tensor in other.tensors {
            guard let stored = whole[tensor.name] else { continue }
            let mesh = try layouts.mesh(rankCount: rankCount)
            var layout = try layouts.layout(of: stored.shape, on: mesh)
            while Self.isPartial(layout) { layout = try layouts.layout(of: stored.shape, on: mesh) }
            tensors.append(
                PlacedTensor(
                    name: tensor.name, scalarType: tensor.scalarType, shape: stored.shape, layout: layout))
        }
    }

    /// What a rank holds: the bytes of each tensor that the oracle says, padding zero; `nil` where it holds none.
    func local(_ tensor: PlacedTensor, rank: Int) throws -> Tensor? {
        guard let whole = whole[tensor.name],
            let local = ElementOracle.local(tensor.layout, tensor.shape, rank: rank)
        else { return nil }
        let width = tensor.scalarType.byteWidth ?? 1
        let partialIndex = Self.isPartial(tensor.layout) ? try tensor.sharded().partialIndex(ofRank: rank) : 0
        let first = partialIndex * tensor.shape.elementCount
        let bytes = whole.bytes.withUnsafeBytes { source in
            local.elements.flatMap { element -> [UInt8] in
                guard element >= 0 else { return [UInt8](repeating: 0, count: width) }
                return Array(source[(first + element) * width..<(first + element + 1) * width])
            }
        }
        return try Tensor(tensor.scalarType, Shape(local.extents), copying: bytes.span.bytes)
    }

    /// What a rank brings to a save.
    func state(ofRank rank: Int) throws -> ShardedState {
        var state = try ShardedState(rank: rank, rankCount: rankCount, tensors: tensors)
        for tensor in tensors {
            if let local = try local(tensor, rank: rank) { try state.set(local, for: tensor.name) }
        }
        return state
    }

    static func isPartial(_ layout: Layout) -> Bool {
        layout.steps.contains { if case .partial = $0.placement { true } else { false } }
    }

    private static func randomTensor(
        _ type: ScalarType, _ shape: Shape, _ random: inout LayoutRandom
    ) throws -> Tensor {
        try Tensor(type, shape) { bytes in
            bytes.withUnsafeMutableBytes { memory in
                for index in memory.indices { memory[index] = UInt8(truncatingIfNeeded: random.next()) }
            }
        }
    }
}
