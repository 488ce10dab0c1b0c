import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor

/// What a pickle says of a tensor: a view of a storage that is elsewhere.
struct TorchView: Sendable, Hashable {
    /// The storage's key.
    var storage: String
    /// The storage's size in bytes.
    var storageByteCount: Int
    /// The type of the elements.
    var scalarType: ScalarType
    /// The shape; of packed types in elements.
    var shape: Shape
    /// For each dimension the distance between neighbours, in elements of at least a byte.
    var strides: [Int]
    /// The first element, in elements of at least a byte.
    var offset: Int
    /// Whether the imaginary parts are stored with the other sign.
    var isConjugated = false
    /// Whether all elements are stored with the other sign.
    var isNegated = false

    /// The most bytes of a view that repeats what its storage has once.
    private static let greatestExpansion = 1 << 30

    /// The extents in units of whole bytes: two packed elements are one.
    private var units: [Int] {
        guard scalarType == .f4, let last = shape.extents.last else { return shape.extents }
        return shape.extents.dropLast() + [last / 2]
    }

    private var unitByteCount: Int { scalarType.byteWidth ?? 1 }

    /// Whether the elements follow each other in the storage, row-major.
    private var isContiguous: Bool {
        var expected = 1
        for (extent, stride) in zip(units, strides).reversed() where extent != 1 {
            if stride != expected { return false }
            expected *= extent
        }
        return true
    }

    /// A view of `extents` units, which may be packed.
    ///
    /// - Throws: ``CairnError/Code/malformed`` when it is not within its storage.
    init(
        _ storage: TorchStorageName, _ scalarType: ScalarType, extents: [Int], strides: [Int], offset: Int
    ) throws(CairnError) {
        guard let first = offset.adding(checked: storage.offset) else {
            throw CairnError(.malformed, "a tensor's offset is out of range", .init(found: "\(offset)"))
        }
        try self.init(
            storage: storage.key, storageByteCount: storage.byteCount, scalarType, extents: extents, strides: strides,
            offset: first)
    }

    /// - Throws: ``CairnError/Code/malformed`` when it is not within its storage.
    init(
        storage: String, storageByteCount: Int, _ scalarType: ScalarType, extents: [Int], strides: [Int], offset: Int
    ) throws(CairnError) {
        var logical = extents
        if scalarType == .f4 {
            guard let doubled = (logical.popLast() ?? 1).multiplied(checked: 2) else {
                throw CairnError(.malformed, "a shape's element count overflows", .init(found: "\(extents)"))
            }
            logical.append(doubled)
        }
        self.storage = storage
        self.storageByteCount = storageByteCount
        self.scalarType = scalarType
        self.shape = try Shape(checking: logical)
        self.strides = strides
        self.offset = offset
        guard extents.count == strides.count, offset >= 0, strides.allSatisfy({ $0 >= 0 }),
            let byteCount = scalarType.byteCount(elementCount: shape.elementCount)
        else {
            throw CairnError(
                .malformed, "a tensor's offset or strides are out of range",
                .init(found: "offset \(offset), shape \(extents), strides \(strides)"))
        }
        guard shape.elementCount > 0 else { return }
        var last: Int? = offset
        for (extent, stride) in zip(extents, strides) {
            last = (extent - 1).multiplied(checked: stride).flatMap { last?.adding(checked: $0) }
        }
        guard let last, last < storageByteCount / unitByteCount else {
            throw CairnError(
                .malformed, "a tensor reaches beyond its storage",
                .init(
                    expected: "at most \(storageByteCount) bytes",
                    found: "offset \(offset), shape \(extents), strides \(strides) of \(scalarType)"))
        }
        guard byteCount <= max(storageByteCount, Self.greatestExpansion) else {
            throw CairnError(
                .unsupported, "a tensor repeats a small storage too often",
                .init(expected: "at most \(Self.greatestExpansion) bytes", found: "\(byteCount)"))
        }
        if scalarType == .f4, !isContiguous {
            throw CairnError(.unsupported, "packed elements must follow each other", .init(found: "\(strides)"))
        }
    }

    /// The elements, read from the storage's file.
    func content(_ file: any StorageFile, isBigEndian: Bool) -> any TensorView {
        var content: any TensorView =
            isContiguous
            ? FileTensor(
                file: file, byteOffset: offset * unitByteCount, scalarType: scalarType, shape: shape)
            : StridedTensor(
                file: file, scalarType: scalarType, width: unitByteCount, shape: shape, strides: strides,
                offset: offset)
        if isBigEndian { content = ByteSwappedView(content) }
        return isConjugated || isNegated
            ? NegatedView(content, isConjugated: isConjugated, isNegated: isNegated) : content
    }
}
