internal import CairnBase
internal import CairnTensor

/// The weights as numbers to compute with: themselves, or expanded where the model keeps rounded ones.
struct ExpandedWeights: Sendable {
    private let offsets: [Int]
    private let arena: Arena
    private let isExpanded: Bool
    private let base: SharedElements<Float>

    init(_ parameters: [ParameterSpecification], _ precision: WeightPrecision, _ arena: Arena) {
        var offsets: [Int] = []
        var size = 0
        for parameter in parameters {
            offsets.append(size)
            size += parameter.shape.elementCount.dividedRoundingUp(by: 16) * 16
        }
        self.offsets = offsets
        self.arena = arena
        isExpanded = precision != .float32
        let count = isExpanded ? size : 0
        base = SharedElements(UnsafeMutableBufferPointer(start: arena.floats(count), count: count))
    }

    /// Follows a change of the weights.
    func update(_ weights: [Tensor]) {
        guard isExpanded else { return }
        for (tensor, offset) in zip(weights, offsets) {
            tensor.bytes.withUnsafeBytes { bytes in
                let rounded = bytes.assumingMemoryBound(to: BFloat16.self)
                for index in rounded.indices { base[offset + index] = Float(rounded[index]) }
            }
        }
    }

    /// Calls `body` with the weights' addresses, which hold as long as it runs.
    func withPointers<Result>(_ weights: [Tensor], _ body: (ParameterPointers) throws -> Result) rethrows -> Result {
        if isExpanded, let start = base.elements.baseAddress {
            return try body(ParameterPointers(offsets.map { UnsafePointer(start + $0) }))
        }
        defer { withExtendedLifetime(weights) {} }
        return try body(
            ParameterPointers(
                weights.map { tensor in
                    UnsafePointer((tensor.storage.base + tensor.byteOffset).assumingMemoryBound(to: Float.self))
                }))
    }
}
