package import CairnBase
import CairnCheckpoint
package import CairnTensor

/// The changes of a chunk as ``ChangeCoding`` stored them, ready to be made.
package struct DecodedChanges {
    private let kind: ChangeCoding.Kind
    private let width: NumberWidth
    private let scratch: ChangeScratch
    private let numberCount: Int
    private let positions: UnsafeBufferPointer<UInt32>

    /// Calls `body` with the changes of a chunk of so many bytes.
    ///
    /// - Throws: ``CairnError/Code/malformed`` for bytes that are no changes of such a chunk. No more memory is taken than a few
    ///   times that of the chunk.
    package static func with<Result>(
        _ stored: [UInt8], chunkByteCount: Int, _ scalarType: ScalarType,
        _ body: (DecodedChanges) throws(CairnError) -> Result
    ) throws(CairnError) -> Result {
        let width = NumberWidth(scalarType)
        guard stored.count >= ChangeCoding.headByteCount, chunkByteCount.isMultiple(of: width.byteCount),
            let kind = ChangeCoding.Kind(rawValue: stored[0]), stored[2] <= 1, stored[3] <= 1
        else { throw damage("begins with what no changes begin with") }
        let numberCount = chunkByteCount / width.byteCount
        return try ChangeScratch.with(numberCount: numberCount, width) { scratch throws(CairnError) in
            var found = 0
            switch kind {
            case .some: found = try readSome(stored, numberCount, width, scratch)
            case .all, .elements:
                let type = kind == .all ? width.unsigned : scalarType
                let room = UnsafeMutableRawBufferPointer(start: scratch.folded, count: chunkByteCount)
                guard unpack(stored, from: ChangeCoding.headByteCount, isCoded: stored[3] == 1, type, into: room) else {
                    throw damage("do not expand to the numbers of the chunk")
                }
            }
            return try body(
                DecodedChanges(
                    kind: kind, width: width, scratch: scratch, numberCount: numberCount,
                    positions: UnsafeBufferPointer(rebasing: scratch.positions[..<found])))
        }
    }

    /// Whether the elements are all here, so that those of the base are not needed.
    package var replacesAll: Bool { kind == .elements }

    /// How many numbers change; all of those that are given as elements.
    package var changedCount: Int {
        switch kind {
        case .some: return positions.count
        case .elements: return numberCount
        case .all:
            let size = width.byteCount
            let bytes = UnsafeRawBufferPointer(start: scratch.folded, count: numberCount * size)
            return (0..<numberCount).count { number in
                bytes[number * size..<(number + 1) * size].contains { $0 != 0 }
            }
        }
    }

    /// Makes the changes of a part of the chunk.
    ///
    /// - Parameters:
    ///   - bytes: Which bytes of the chunk, at bounds of elements.
    ///   - target: As many bytes: the base's elements, which become the result's.
    package func apply(_ bytes: Range<Int>, to target: UnsafeMutableRawBufferPointer) {
        switch kind {
        case .elements:
            target.copyMemory(from: UnsafeRawBufferPointer(start: scratch.folded + bytes.lowerBound, count: bytes.count))
        case .all: NumberDifferences.add(scratch.folded + bytes.lowerBound, to: target, width)
        case .some:
            let first = bytes.lowerBound / width.byteCount
            let begin = index(from: first), end = index(from: bytes.upperBound / width.byteCount)
            NumberDifferences.add(
                scratch.folded + begin * width.byteCount, at: UnsafeBufferPointer(rebasing: positions[begin..<end]), to: target,
                beginningAt: first, width)
        }
    }

    /// The first place in the list of a number at a position or behind it.
    private func index(from position: Int) -> Int {
        var (low, high) = (0, positions.count)
        while low < high {
            let middle = (low + high) / 2
            if Int(positions[middle]) < position { low = middle + 1 } else { high = middle }
        }
        return low
    }
}

extension DecodedChanges {
    /// - Returns: How many numbers differ.
    private static func readSome(
        _ stored: [UInt8], _ numberCount: Int, _ width: NumberWidth, _ scratch: ChangeScratch
    ) throws(CairnError) -> Int {
        guard stored.count >= ChangeCoding.someByteCount, stored[1] == 1 || stored[1] == 2 else {
            throw damage("are cut short")
        }
        let count = number(stored, at: 4), gapCount = number(stored, at: 8), gapBytes = number(stored, at: 12)
        let gapWidth = Int(stored[1])
        let end = ChangeCoding.someByteCount + gapBytes
        // Of gaps that continue there is at most one for each so many numbers.
        guard count > 0, count <= numberCount, gapCount >= count, gapCount <= count + numberCount / 255, end <= stored.count
        else { throw damage("claim more numbers than the chunk has") }
        var gaps = [UInt8](repeating: 0, count: gapCount * gapWidth)
        let isRead = gaps.withUnsafeMutableBytes { room in
            unpack(
                stored, from: ChangeCoding.someByteCount, to: end, isCoded: stored[2] == 1, gapWidth == 1 ? .u8 : .u16,
                into: room)
                && Gaps.read(
                    UnsafeRawBufferPointer(room), gapWidth,
                    into: UnsafeMutableBufferPointer(rebasing: scratch.positions[..<count]), below: numberCount)
        }
        guard isRead else { throw damage("have positions outside of the chunk") }
        let room = UnsafeMutableRawBufferPointer(start: scratch.folded, count: count * width.byteCount)
        guard unpack(stored, from: end, isCoded: stored[3] == 1, width.unsigned, into: room) else {
            throw damage("do not expand to as many numbers as they claim")
        }
        return count
    }

    private static func unpack(
        _ stored: [UInt8], from begin: Int, to end: Int? = nil, isCoded: Bool, _ scalarType: ScalarType,
        into room: UnsafeMutableRawBufferPointer
    ) -> Bool {
        stored.withUnsafeBytes { bytes in
            let part = UnsafeRawBufferPointer(rebasing: bytes[begin..<(end ?? bytes.count)])
            if isCoded {
                return ChunkWorkspace.with { ChunkCompression.expand(part, scalarType, .exponentPlanes, into: room, $0) }
            }
            guard part.count == room.count else { return false }
            room.copyMemory(from: part)
            return true
        }
    }

    private static func number(_ stored: [UInt8], at offset: Int) -> Int {
        Int(stored.littleEndian(UInt32.self, at: offset))
    }

    private static func damage(_ what: String) -> CairnError {
        CairnError(.malformed, "the changes of a chunk \(what)")
    }
}
