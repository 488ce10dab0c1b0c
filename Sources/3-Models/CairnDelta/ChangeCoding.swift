import CairnBase
import CairnCheckpoint
package import CairnTensor

/// How the changes of a chunk are stored: a run of up to a few million numbers of one tensor.
///
/// ```
/// u8   kind: 1 some numbers, 2 differences of all, 3 the elements themselves
/// u8   1 or 2, the bytes of a gap; 0 where there are none
/// u8   whether the gaps are coded
/// u8   whether what follows is coded
/// kind 1 only:
/// u32  how many numbers differ
/// u32  how many gaps there are
/// u32  how many bytes the gaps take as they are stored
/// …    the gaps: before each number that differs, how many do not since the last; the greatest gap stands for as many, and
///      that the next one is added
/// …    the folded differences, or the elements
/// ```
///
/// What is coded is in the codec `exponent-planes`, which takes it as unsigned integers, and the elements of kind 3 as their
/// type.
package enum ChangeCoding {
    enum Kind: UInt8 {
        case some = 1
        case all = 2
        case elements = 3
    }

    static let headByteCount = 4
    static let someByteCount = 16
    /// The most bytes that the changes of a chunk take beside those of the chunk itself.
    package static let overheadByteCount = 64

    /// Codes what it takes to make `result` of `base`.
    ///
    /// - Parameter base: As many bytes as `result` has, fewer than 2^32; `nil` where there is nothing to begin with.
    /// - Returns: The stored bytes, none where the two are equal.
    package static func code(
        base: UnsafeRawBufferPointer?, result: UnsafeRawBufferPointer, _ scalarType: ScalarType
    ) -> [UInt8] {
        guard let base, !result.isEmpty else { return elements(result, scalarType) }
        let width = NumberWidth(scalarType)
        return ChangeScratch.with(numberCount: result.count / width.byteCount, width) { scratch in
            guard
                let found = NumberDifferences.find(
                    base, result, width, positions: scratch.halfOfPositions, folded: scratch.folded)
            else {
                NumberDifferences.all(base, result, width, folded: scratch.folded)
                return all(UnsafeRawBufferPointer(start: scratch.folded, count: result.count), result, scalarType, width)
            }
            return found == 0 ? [] : some(found, scratch, width)
        }
    }

    /// Some numbers: fewer than every second one, where gaps take less than a bit for each number.
    private static func some(_ count: Int, _ scratch: ChangeScratch, _ width: NumberWidth) -> [UInt8] {
        let positions = UnsafeBufferPointer(rebasing: scratch.positions[..<count])
        let (gapWidth, gapCount) = Gaps.choose(positions)
        let gaps = [UInt8](unsafeUninitializedCapacity: gapCount * gapWidth) { buffer, used in
            Gaps.write(positions, gapWidth, into: UnsafeMutableRawBufferPointer(buffer))
            used = gapCount * gapWidth
        }
        let coded = gaps.withUnsafeBytes { pack($0, gapWidth == 1 ? .u8 : .u16) }
        let numbers = pack(
            UnsafeRawBufferPointer(start: scratch.folded, count: count * width.byteCount), width.unsigned)
        var bytes: [UInt8] = []
        bytes.reserveCapacity(someByteCount + coded.bytes.count + numbers.bytes.count)
        bytes.append(contentsOf: [
            Kind.some.rawValue, UInt8(gapWidth), coded.isCoded ? 1 : 0, numbers.isCoded ? 1 : 0,
        ])
        for number in [count, gapCount, coded.bytes.count] { bytes.append(littleEndian: UInt32(truncatingIfNeeded: number)) }
        bytes.append(contentsOf: coded.bytes)
        bytes.append(contentsOf: numbers.bytes)
        return bytes
    }

    /// All numbers: their differences, or the elements if those look smaller.
    private static func all(
        _ folded: UnsafeRawBufferPointer, _ result: UnsafeRawBufferPointer, _ scalarType: ScalarType, _ width: NumberWidth
    ) -> [UInt8] {
        let difference = BytePlanes.entropies(folded, BytePlanes.Cut(width.unsigned, rotatesFloats: true)).reduce(0, +)
        let plain = BytePlanes.entropies(result, BytePlanes.Cut(scalarType, rotatesFloats: true)).reduce(0, +)
        if plain <= difference { return elements(result, scalarType) }
        let packed = pack(folded, width.unsigned)
        return [Kind.all.rawValue, 0, 0, packed.isCoded ? 1 : 0] + packed.bytes
    }

    private static func elements(_ result: UnsafeRawBufferPointer, _ scalarType: ScalarType) -> [UInt8] {
        guard !result.isEmpty else { return [] }
        let packed = pack(result, scalarType)
        return [Kind.elements.rawValue, 0, 0, packed.isCoded ? 1 : 0] + packed.bytes
    }

    /// The bytes coded, or as they are where that saves too little.
    private static func pack(_ bytes: UnsafeRawBufferPointer, _ scalarType: ScalarType) -> (bytes: [UInt8], isCoded: Bool) {
        var isCoded = false
        let packed = [UInt8](unsafeUninitializedCapacity: bytes.count) { buffer, used in
            let room = UnsafeMutableRawBufferPointer(buffer)
            let size = ChunkWorkspace.with {
                ChunkCompression.compress(bytes, scalarType, .exponentPlanes, level: 1, into: room, $0)
            }
            isCoded = size != nil
            if size == nil { room.copyMemory(from: bytes) }
            used = size ?? bytes.count
        }
        return (packed, isCoded)
    }
}

/// The distances between numbers that differ.
enum Gaps {
    /// Bytes of a gap, and how many gaps there are: those of one byte or of two, whichever take less.
    static func choose(_ positions: UnsafeBufferPointer<UInt32>) -> (width: Int, count: Int) {
        var (short, long, next) = (0, 0, 0)
        for position in positions {
            let gap = Int(position) - next
            short += gap / 255 + 1
            long += gap / 65_535 + 1
            next = Int(position) + 1
        }
        return 2 * long < short ? (2, long) : (1, short)
    }

    /// Writes as many gaps as ``choose(_:)`` said.
    static func write(_ positions: UnsafeBufferPointer<UInt32>, _ width: Int, into gaps: UnsafeMutableRawBufferPointer) {
        guard let target = gaps.baseAddress else { return }
        let greatest = width == 1 ? 255 : 65_535
        var (index, next) = (0, 0)
        func put(_ gap: Int) {
            if width == 1 {
                target.storeBytes(of: UInt8(truncatingIfNeeded: gap), toByteOffset: index, as: UInt8.self)
            } else {
                target.storeBytes(of: UInt16(truncatingIfNeeded: gap).littleEndian, toByteOffset: 2 * index, as: UInt16.self)
            }
            index += 1
        }
        for position in positions {
            var gap = Int(position) - next
            while gap >= greatest {
                put(greatest)
                gap -= greatest
            }
            put(gap)
            next = Int(position) + 1
        }
    }

    /// The positions that gaps mean.
    ///
    /// - Returns: Whether they are as many as `positions` has room for, and all below `end`.
    static func read(
        _ gaps: UnsafeRawBufferPointer, _ width: Int, into positions: UnsafeMutableBufferPointer<UInt32>, below end: Int
    ) -> Bool {
        let greatest = width == 1 ? 255 : 65_535
        var (found, next) = (0, 0)
        for offset in stride(from: 0, to: gaps.count, by: width) {
            let gap =
                width == 1
                ? Int(gaps[offset]) : Int(UInt16(littleEndian: gaps.loadUnaligned(fromByteOffset: offset, as: UInt16.self)))
            next += gap
            if gap == greatest { continue }
            guard found < positions.count, next < end else { return false }
            positions[found] = UInt32(truncatingIfNeeded: next)
            found += 1
            next += 1
        }
        return found == positions.count
    }
}
