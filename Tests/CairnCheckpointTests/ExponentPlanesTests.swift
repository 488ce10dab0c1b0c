import CairnBase
import CairnCheckpoint
import CairnTensor
import CairnTesting
import Testing

/// The codec `exponent-planes`, chunk by chunk.
@Suite struct ExponentPlanesTests {
    /// What a chunk may hold.
    enum Content: CaseIterable, Sendable {
        /// Every bit at random.
        case noise
        /// As the weights of a network: numbers around zero of similar magnitude.
        case weights
        /// One byte value.
        case constant
        /// Nearly everywhere zero.
        case sparse
        /// Infinities, zeros of both signs, and not-a-numbers of any payload.
        case special
    }

    private static func chunk(
        _ content: Content, _ type: ScalarType, elements: Int, using generator: inout SeededGenerator
    ) -> [UInt8] {
        let width = type.byteWidth ?? 1
        switch content {
        case .noise: return (0..<elements * width).map { _ in UInt8.random(in: 0...255, using: &generator) }
        case .constant: return [UInt8](repeating: .random(in: 0...255, using: &generator), count: elements * width)
        case .sparse:
            return (0..<elements * width).map { _ in
                UInt8.random(in: 0...255, using: &generator) == 0 ? UInt8.random(in: 0...255, using: &generator) : 0
            }
        case .weights:
            return (0..<elements).flatMap { _ in
                // The top of a 64-bit float, so that every type has an exponent above and a mantissa below.
                let value = (0..<4).reduce(0.0) { sum, _ in sum + Double.random(in: -0.02...0.02, using: &generator) }
                return (0..<width).map {
                    UInt8(truncatingIfNeeded: value.bitPattern >> UInt64(max(0, 64 - 8 * width) + 8 * ($0 % 8)))
                }
            }
        case .special:
            return (0..<elements).flatMap { _ -> [UInt8] in
                var bytes = (0..<width).map { _ in UInt8.random(in: 0...255, using: &generator) }
                bytes[width - 1] = [0x7F, 0xFF, 0x80, 0].randomElement(using: &generator) ?? 0
                if width > 1 { bytes[width - 2] |= 0x80 }
                return bytes
            }
        }
    }

    private static func compress(_ chunk: [UInt8], _ type: ScalarType) -> [UInt8]? {
        var stored = [UInt8](repeating: 0, count: chunk.count)
        let size = stored.withUnsafeMutableBytes { target in
            chunk.withUnsafeBytes { source in
                ChunkWorkspace.with { ChunkCompression.compress(source, type, .exponentPlanes, level: 1, into: target, $0) }
            }
        }
        return size.map { Array(stored[..<$0]) }
    }

    /// The chunk; `nil` where what is stored is refused. What lies behind the chunk must stay as it is.
    private static func expand(_ stored: [UInt8], _ type: ScalarType, byteCount: Int) -> [UInt8]? {
        var chunk = [UInt8](repeating: 0xEE, count: byteCount + 64)
        let isExpanded = chunk.withUnsafeMutableBytes { memory in
            stored.withUnsafeBytes { source in
                ChunkWorkspace.with {
                    ChunkCompression.expand(source, type, .exponentPlanes, into: .init(rebasing: memory[..<byteCount]), $0)
                }
            }
        }
        #expect(chunk[byteCount...].allSatisfy { $0 == 0xEE })
        return isExpanded ? Array(chunk[..<byteCount]) : nil
    }

    private static func lengths(_ stored: [UInt8], _ width: Int) -> [Int] {
        (0..<width).map { plane in (0..<4).reduce(0) { $0 | Int(stored[plane * 4 + $1]) << (8 * $1) } }
    }

    @Test(arguments: ScalarType.allCases, Content.allCases)
    func aChunkOfAnyTypeAndLengthComesBack(type: ScalarType, content: Content) {
        let seed = UInt64.random(in: .min ... .max)
        var generator = SeededGenerator(seed: seed)
        var compressed = 0
        for elements in [1, 2, 15, 16, 17, 33, 100, 1023, 4096] + [.random(in: 5000...12_000, using: &generator)] {
            let chunk = Self.chunk(content, type, elements: elements, using: &generator)
            guard let stored = Self.compress(chunk, type) else { continue }
            compressed += 1
            #expect(stored.count < chunk.count - chunk.count / 32, "seed \(seed), \(elements) elements")
            #expect(Self.expand(stored, type, byteCount: chunk.count) == chunk, "seed \(seed), \(elements) elements")
            #expect(Self.compress(chunk, type) == stored, "seed \(seed), \(elements) elements")
        }
        if content == .constant || content == .sparse { #expect(compressed >= 3, "seed \(seed)") }
        if content == .weights, type.byteWidth ?? 0 > 1, type.isFloatingPoint { #expect(compressed >= 2, "seed \(seed)") }
    }

    @Test func weightsShrinkByWhatTheirExponentsAllow() throws {
        var generator = SeededGenerator(seed: 3)
        for (type, most) in [(ScalarType.bf16, 0.72), (.f32, 0.88), (.f64, 0.92)] {
            let chunk = (0..<20_000).flatMap { _ -> [UInt8] in
                // A product, so that the lowest bits are as random as those of weights.
                let sum = (0..<4).reduce(0.0) { sum, _ in sum + Double.random(in: -0.02...0.02, using: &generator) }
                let value = sum * Double.random(in: 0.9...1, using: &generator)
                let bits = type == .f64 ? value.bitPattern : UInt64(Float(value).bitPattern) << 32
                let width = type.byteWidth ?? 1
                return (0..<width).map { UInt8(truncatingIfNeeded: bits >> UInt64(64 - 8 * width + 8 * $0)) }
            }
            let stored = try #require(Self.compress(chunk, type))
            #expect(Double(stored.count) < most * Double(chunk.count), "\(type): \(stored.count) of \(chunk.count)")
            // The lowest mantissa bits are stored as they are, the exponents are coded.
            let lengths = Self.lengths(stored, type.byteWidth ?? 1)
            #expect(lengths.first == 20_000 && lengths.last ?? .max < 10_000, "\(type): \(lengths)")
        }
    }

    @Test func whatDoesNotShrinkIsNotCompressed() {
        var generator = SeededGenerator(seed: 5)
        for type in ScalarType.allCases {
            let noise = Self.chunk(.noise, type, elements: 6000, using: &generator)
            #expect(Self.compress(noise, type) == nil, "\(type)")
        }
    }

    /// The lengths before the planes: any other number, any flipped bit, and any two that change places.
    @Test(arguments: [ScalarType.u8, .bf16, .f32, .c64, .f64, .i64])
    func aLieInTheLengthsOfThePlanesIsRefused(type: ScalarType) throws {
        let seed = UInt64.random(in: .min ... .max)
        var generator = SeededGenerator(seed: seed)
        let chunk = Self.chunk(type == .u8 || type == .i64 ? .sparse : .weights, type, elements: 3000, using: &generator)
        let stored = try #require(Self.compress(chunk, type))
        let width = BytePlanes.Cut(type, rotatesFloats: true).width
        let (lengths, count) = (Self.lengths(stored, width), chunk.count / width)
        #expect(lengths.reduce(4 * width, +) == stored.count)
        func changed(_ plane: Int, _ length: Int, in bytes: [UInt8]) -> [UInt8] {
            var bytes = bytes
            for byte in 0..<4 { bytes[plane * 4 + byte] = UInt8(truncatingIfNeeded: length >> (8 * byte)) }
            return bytes
        }
        for plane in 0..<width {
            let lies = [0, 1, lengths[plane] - 1, lengths[plane] + 1, count, count + 1, stored.count, 1 << 31, Int(UInt32.max)]
            for length in lies where length != lengths[plane] {
                let lie = changed(plane, length, in: stored)
                #expect(Self.expand(lie, type, byteCount: chunk.count) == nil, "seed \(seed), plane \(plane): \(length)")
            }
            for bit in 0..<32 {
                let lie = changed(plane, lengths[plane] ^ 1 << bit, in: stored)
                #expect(Self.expand(lie, type, byteCount: chunk.count) == nil, "seed \(seed), plane \(plane), bit \(bit)")
            }
            // The sum is right, and where one plane ends and the next begins is not.
            for other in 0..<width where other != plane && lengths[other] < count {
                let lie = changed(other, lengths[other] + 1, in: changed(plane, lengths[plane] - 1, in: stored))
                #expect(Self.expand(lie, type, byteCount: chunk.count) == nil, "seed \(seed), planes \(plane) and \(other)")
            }
        }
    }

    @Test(arguments: [ScalarType.u8, .bf16, .f32]) func aChunkThatIsCutOrHasMoreIsRefused(type: ScalarType) throws {
        var generator = SeededGenerator(seed: 8)
        let chunk = Self.chunk(type == .u8 ? .sparse : .weights, type, elements: 700, using: &generator)
        let stored = try #require(Self.compress(chunk, type))
        for count in 0..<stored.count {
            #expect(Self.expand(Array(stored[..<count]), type, byteCount: chunk.count) == nil, "\(count) bytes")
        }
        #expect(Self.expand(stored + [0], type, byteCount: chunk.count) == nil)
        let width = type.byteWidth ?? 1
        for byteCount in [0, width, chunk.count - width, chunk.count + width, chunk.count + 1, 2 * chunk.count]
        where byteCount > 0 {
            #expect(Self.expand(stored, type, byteCount: byteCount) == nil || byteCount == chunk.count, "\(byteCount) bytes")
        }
        #expect(Self.expand(stored, type, byteCount: 0) == nil)
    }

    /// Behind a checksum that is right, any bytes may stand: they are refused or expand to the chunk's length.
    @Test func damagedPlanesNeverLeaveTheChunk() throws {
        let seed = UInt64.random(in: .min ... .max)
        var generator = SeededGenerator(seed: seed)
        for round in 0..<600 {
            let type = [ScalarType.u8, .bf16, .f32, .f64].randomElement(using: &generator) ?? .u8
            let chunk = Self.chunk(round % 2 == 0 ? .sparse : .weights, type, elements: 400, using: &generator)
            guard var stored = Self.compress(chunk, type) else { continue }
            for _ in 0..<Int.random(in: 1...3, using: &generator) {
                let place = Int.random(in: 0..<stored.count, using: &generator)
                stored[place] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
            }
            let found = Self.expand(stored, type, byteCount: chunk.count)
            #expect(found == nil || found?.count == chunk.count, "seed \(seed), round \(round)")
        }
    }

    /// Many threads take turns with the same few workspaces.
    @Test func workspacesOfOtherTypesAndSizesDoNotMatter() throws {
        let seed = UInt64.random(in: .min ... .max)
        try ThreadPool.shared.forEach(64) { index in
            var generator = SeededGenerator(seed: seed &+ UInt64(index))
            let type = ScalarType.allCases[index % ScalarType.allCases.count]
            let chunk = Self.chunk(.sparse, type, elements: .random(in: 500...9000, using: &generator), using: &generator)
            guard let stored = Self.compress(chunk, type) else { return }
            #expect(Self.expand(stored, type, byteCount: chunk.count) == chunk, "seed \(seed), \(index)")
        }
    }
}
