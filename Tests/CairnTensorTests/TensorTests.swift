import CairnBase
import CairnTensor
import Testing

@Suite struct TensorValueTests {
    @Test func writingACopyLeavesTheOriginal() throws {
        let original = Tensor([1, 2, 3] as [Float])
        var copy = original
        #expect(copy.sharesBytes(with: original))
        copy.withMutableElements(as: Float.self) { $0[0] = 9 }
        #expect(try original.elements(as: Float.self) == [1, 2, 3])
        #expect(try copy.elements(as: Float.self) == [9, 2, 3])
    }

    @Test func aSoleOwnerIsWrittenInPlace() {
        var tensor = Tensor([1, 2, 3] as [Float])
        let before = tensor.storage
        let address = before.base
        withExtendedLifetime(before) {}
        _ = consume before
        tensor.withMutableElements(as: Float.self) { $0[1] = 5 }
        #expect(tensor.storage.base == address)
    }

    @Test func aSharedRewriteGoesOutOfPlaceAndReadsTheOldValues() throws {
        let pool = BufferPool(idleLimit: 1 << 20)
        var tensor = try Tensor(zeros: .f32, [1024], pool: pool)
        tensor.withMutableElements(as: Float.self) { for index in $0.indices { $0[index] = Float(index) } }
        let snapshot = tensor
        tensor.rewrite(as: Float.self) { old, new in for index in old.indices { new[index] = old[index] + 1 } }
        #expect(try snapshot.elements(as: Float.self)[7] == 7)
        #expect(try tensor.elements(as: Float.self)[7] == 8)
    }

    @Test func aPoolHandsBuffersOutAgain() throws {
        let pool = BufferPool(idleLimit: 1 << 20)
        for _ in 0..<5 { _ = try Tensor(zeros: .f32, [10_000], pool: pool) }
        #expect(pool.statistics.allocationCount == 1)
        #expect(pool.statistics.reuseCount == 4)
        #expect(pool.statistics.liveByteCount == 0)
    }

    @Test func foreignMemoryIsNeverWritten() throws {
        final class Keeper: Sendable {}
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 8, alignment: 8)
        defer { memory.deallocate() }
        memory.copyBytes(from: [1, 2, 3, 4, 5, 6, 7, 8])
        var tensor = try Tensor(.u8, [8], borrowing: UnsafeRawBufferPointer(memory), keptAliveBy: Keeper())
        tensor.withMutableElements(as: UInt8.self) { $0[0] = 99 }
        #expect(memory[0] == 1)
        #expect(try tensor.elements(as: UInt8.self)[0] == 99)
    }

    @Test func wrongSizesAreErrors() {
        #expect(throws: CairnError.self) { try Tensor([1, 2, 3] as [Float], [2, 2]) }
        #expect(throws: CairnError.self) { try Tensor(zeros: .f4, [3]) }
        #expect(throws: CairnError.self) { try Tensor(zeros: .f64, Shape(checking: [Int.max])) }
        #expect(throws: CairnError.self) { try Shape(checking: [Int.max, 2]) }
        #expect(throws: CairnError.self) { try Shape(checking: [0, Int.max, 2]) }
        #expect(throws: CairnError.self) { try Shape(checking: [-1]) }
        #expect(throws: CairnError.self) { try Tensor([1, 2] as [Float]).elements(as: Double.self) }
    }
}

@Suite struct RegionCopyTests {
    /// A tensor of I32 whose elements are their own index.
    private func iota(_ shape: Shape) throws -> Tensor { try Tensor((0..<shape.elementCount).map { Int32($0) }, shape) }

    @Test(arguments: 0..<200) func copiesEqualElementwiseCopies(seed: Int) throws {
        var state = UInt64(seed) &* 0x9E37_79B9_7F4A_7C15 &+ 1
        func random(_ limit: Int) -> Int {
            state ^= state << 13; state ^= state >> 7; state ^= state << 17
            return Int(state % UInt64(limit))
        }
        let dimensions = random(5)
        let sourceShape = Shape((0..<dimensions).map { _ in 1 + random(5) })
        let targetShape = Shape((0..<dimensions).map { _ in 1 + random(5) })
        let extents = (0..<dimensions).map { 1 + random(min(sourceShape[$0], targetShape[$0])) }
        let from = try Region(
            offsets: (0..<dimensions).map { random(sourceShape[$0] - extents[$0] + 1) }, shape: Shape(extents))
        let into = try Region(
            offsets: (0..<dimensions).map { random(targetShape[$0] - extents[$0] + 1) }, shape: Shape(extents))
        let source = try iota(sourceShape)
        var target = try Tensor(zeros: .i32, targetShape)
        var expected = [Int32](repeating: 0, count: targetShape.elementCount)
        for element in 0..<Shape(extents).elementCount {
            var rest = element, sourceIndex = 0, targetIndex = 0
            for dimension in (0..<dimensions).reversed() {
                let coordinate = rest % extents[dimension]
                rest /= extents[dimension]
                sourceIndex += (coordinate + from.offsets[dimension]) * sourceShape.strides[dimension]
                targetIndex += (coordinate + into.offsets[dimension]) * targetShape.strides[dimension]
            }
            expected[targetIndex] = Int32(sourceIndex)
        }
        var span = target.mutableBytes
        try RegionCopy.copy(
            .i32, from: source.bytes, of: sourceShape, region: from, into: &span, of: targetShape, region: into)
        #expect(try target.elements(as: Int32.self) == expected, "seed \(seed)")
    }

    @Test func packedRegionsMustEndAtBytes() throws {
        let packed: [UInt8] = [0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE]
        let source = try Tensor(.f4, [4, 4], copying: packed.span.bytes)
        let half = try source.copy(of: Region(offsets: [1, 2], shape: [2, 2]))
        #expect(half.bytes.withUnsafeBytes { Array($0) } == [0x76, 0xBA])
        #expect(throws: CairnError.self) { try source.copy(of: Region(offsets: [0, 1], shape: [2, 2])) }
        #expect(throws: CairnError.self) { try source.copy(of: Region(offsets: [0, 0], shape: [2, 1])) }
    }

    @Test func regionsOutsideAreRefused() throws {
        let source = try iota([3, 3])
        #expect(throws: CairnError.self) { try source.copy(of: Region(offsets: [2, 2], shape: [2, 1])) }
        #expect(throws: CairnError.self) { try source.copy(of: Region(offsets: [0], shape: [2])) }
        #expect(throws: CairnError.self) { try Region(offsets: [Int.max], shape: [2]) }
    }
}
