import CairnBase
import CairnTensor

/// The codec `exponent-planes`: floats are rotated so that their exponents fill a plane of their own; a plane whose bytes are
/// all about as frequent is stored as it is, another one as Huffman codes.
///
/// This is what ZipNN does for the size of weights (Hershcovitch et al., 2024), in frames that any zstd reads. Where a byte
/// takes less than half a bit, in sparse tensors, codes cannot follow, and zstd searches for matches.
///
/// A stored chunk is the stored length of each plane, 32 bits each, and then the planes, the least significant bytes first.
enum ExponentPlanes {
    /// From so many bits a byte on a plane is stored as it is: coding it would save less than one part in 32.
    private static let rawEntropy: Float = 7.8
    /// Below so many bits a byte matches save more than codes do, which take a bit at least. Not below one: of signs alone, which
    /// take a bit, zstd's level 1 makes a third more.
    private static let sparseEntropy: Float = 0.5
    private static let lengthByteCount = 4

    /// Compresses a chunk.
    ///
    /// - Parameter target: Has room for as many bytes as the chunk has.
    /// - Returns: How many bytes are stored; `nil` when they would be more than `limit`.
    static func compress(
        _ chunk: UnsafeRawBufferPointer, _ scalarType: ScalarType, limit: Int, into target: UnsafeMutableRawBufferPointer,
        _ workspace: ChunkWorkspace
    ) -> Int? {
        let cut = BytePlanes.Cut(scalarType, rotatesFloats: true)
        let count = chunk.count / cut.width
        let head = cut.width * lengthByteCount
        guard let base = target.baseAddress, let source = chunk.baseAddress, count > head, count * cut.width == chunk.count
        else { return nil }
        let entropies = BytePlanes.entropies(chunk, cut)
        guard entropies.contains(where: { $0 < rawEntropy }) else { return nil }
        // Planes that are stored as they are need no copy if all before them are: then their places are known.
        let inPlace = entropies.firstIndex { $0 < rawEntropy } ?? cut.width
        let scratch = cut.width == 1 ? nil : workspace.planes(chunk.count).baseAddress
        var end = head + inPlace * count
        if let scratch {
            BytePlanes.split(
                chunk, cut, into: (0..<cut.width).map { $0 < inPlace ? base + head + $0 * count : scratch + $0 * count })
        }
        for plane in 0..<cut.width {
            var length = count
            if plane >= inPlace {
                let bytes = UnsafeRawBufferPointer(
                    start: scratch.map { UnsafeRawPointer($0 + plane * count) } ?? source, count: count)
                let room = UnsafeMutableRawBufferPointer(rebasing: target[end...])
                if let size = code(bytes, entropies[plane], into: room, workspace), size < count {
                    length = size
                } else {
                    guard room.count >= count else { return nil }
                    room.copyMemory(from: bytes)
                }
                end += length
            }
            base.storeBytes(
                of: UInt32(truncatingIfNeeded: length).littleEndian, toByteOffset: plane * lengthByteCount, as: UInt32.self)
        }
        return end <= limit ? end : nil
    }

    /// Whether a chunk gets smaller by at least one part in 32, by its sample alone.
    static func isWorthwhile(_ chunk: UnsafeRawBufferPointer, _ scalarType: ScalarType) -> Bool {
        let entropies = BytePlanes.entropies(chunk, BytePlanes.Cut(scalarType, rotatesFloats: true))
        let saved = entropies.reduce(0) { $0 + ($1 < rawEntropy ? 8 - $1 : 0) }
        return saved * 32 >= Float(entropies.count) * 8
    }

    /// Expands what ``compress(_:_:limit:into:_:)`` made to exactly the size of `chunk`; `false` when it is not that.
    static func expand(
        _ stored: UnsafeRawBufferPointer, _ scalarType: ScalarType, into chunk: UnsafeMutableRawBufferPointer,
        _ workspace: ChunkWorkspace
    ) -> Bool {
        let cut = BytePlanes.Cut(scalarType, rotatesFloats: true)
        let count = chunk.count / cut.width
        let head = cut.width * lengthByteCount
        guard count > 0, count * cut.width == chunk.count, stored.count > head else { return false }
        let lengths = (0..<cut.width).map {
            Int(UInt32(littleEndian: stored.loadUnaligned(fromByteOffset: $0 * lengthByteCount, as: UInt32.self)))
        }
        guard lengths.allSatisfy({ (1...count).contains($0) }), lengths.reduce(head, +) == stored.count else { return false }
        let target = cut.width == 1 ? chunk : workspace.planes(chunk.count)
        var planes: [UnsafeRawPointer] = []
        var end = head
        for (plane, length) in lengths.enumerated() {
            let bytes = UnsafeRawBufferPointer(rebasing: stored[end..<end + length])
            end += length
            var place = bytes
            if length < count {
                let room = UnsafeMutableRawBufferPointer(rebasing: target[plane * count..<(plane + 1) * count])
                guard workspace.expand(bytes, into: room) else { return false }
                place = UnsafeRawBufferPointer(room)
            }
            guard let start = place.baseAddress else { return false }
            planes.append(start)
        }
        if cut.width > 1 || lengths[0] == count { BytePlanes.join(planes, cut, into: chunk) }
        return true
    }

    private static func code(
        _ plane: UnsafeRawBufferPointer, _ entropy: Float, into room: UnsafeMutableRawBufferPointer, _ workspace: ChunkWorkspace
    ) -> Int? {
        if entropy >= rawEntropy { return nil }
        return entropy < sparseEntropy ? workspace.compress(plane, level: 1, into: room) : workspace.code(plane, into: room)
    }
}
