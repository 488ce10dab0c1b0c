import CairnBase
import CairnCheckpoint
import CairnTensor

/// Memory that slabs of a source are read into, one behind the other, until it is full.
final class SlabBuffer {
    /// A slab and its region.
    struct Slab: Sendable {
        /// The tensor's position in the write plan.
        var tensor: Int
        /// In the stored tensor.
        var region: Region
        /// As many bytes as the region takes in the written type.
        var memory: SlabMemory
    }

    private(set) var slabs: [Slab] = []
    private var storage: TensorStorage
    private var used = 0

    /// The most bytes that a slab has, unless a tensor cannot be cut finer.
    var slabByteCount: Int { max(1 << 14, min(8 << 20, storage.byteCount / 4)) }

    init(byteCount: Int) { storage = TensorStorage(byteCount: byteCount, pool: nil) }

    /// Adds a slab; false when there is no room for it, though a buffer without slabs has room for any.
    func add(_ region: Region, ofTensor tensor: Int, _ scalarType: ScalarType) throws(CairnError) -> Bool {
        let byteCount = try Tensor.byteCount(scalarType, region.shape)
        if slabs.isEmpty, byteCount > storage.byteCount { storage = TensorStorage(byteCount: byteCount, pool: nil) }
        guard byteCount <= storage.byteCount - used else { return false }
        let memory = UnsafeMutableRawBufferPointer(start: storage.base + used, count: byteCount)
        slabs.append(Slab(tensor: tensor, region: region, memory: SlabMemory(bytes: memory)))
        // At pages, for reads past the page cache.
        used = min(storage.byteCount, (used + byteCount + 4095) / 4096 * 4096)
        return true
    }

    func removeAll() {
        slabs.removeAll(keepingCapacity: true)
        used = 0
    }
}

/// The bytes of a slab. `@unchecked Sendable`: they are disjoint parts of a buffer that outlives the work on them.
struct SlabMemory: @unchecked Sendable {
    var bytes: UnsafeMutableRawBufferPointer
}
