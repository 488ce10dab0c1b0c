/// The bytes of all tensors of a family, one tensor after the other; each replica owns an equal share of them.
struct ByteSequence: Sendable {
    let replicaCount: Int
    /// The bytes of all tensors of the family.
    var byteCount = 0

    /// Where a replica's share begins; that of replica `replicaCount` is the end.
    func start(of replica: Int) -> Int { Self.scaled(byteCount, by: replica, over: replicaCount) }

    /// The replica whose share has the byte at a position.
    func replica(at position: Int) -> Int {
        guard byteCount > 0 else { return 0 }
        let last = min(position, byteCount - 1)
        let scaled = (UInt128(last) + 1) * UInt128(replicaCount) - 1
        return min(Int(scaled / UInt128(byteCount)), replicaCount - 1)
    }

    /// `floor(value * numerator / denominator)` without loss; the numerator is at most the denominator.
    static func scaled(_ value: Int, by numerator: Int, over denominator: Int) -> Int {
        guard denominator > 0 else { return 0 }
        return Int(UInt128(value) * UInt128(numerator) / UInt128(denominator))
    }
}
