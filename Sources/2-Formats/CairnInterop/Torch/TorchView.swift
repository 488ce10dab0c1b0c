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

/// How a pickle of PyTorch names a storage: `("storage", type, key, location, count)`, and in files of before 2019 a
/// sixth part that makes it a piece of the storage: `(key, first element, count)`.
struct TorchStorageName {
    var key: String
    /// The type of its elements; ``ScalarType/u8`` where they are bytes of any type.
    var scalarType: ScalarType
    /// PyTorch's name of the storage's class.
    var className: String
    /// The size of the whole storage in bytes.
    var byteCount: Int
    /// Where the piece begins, in elements.
    var offset = 0
    /// The piece's elements.
    var count: Int

    init?(_ identification: PickleGraph.Reference, in graph: PickleGraph) {
        if let text = graph.string(identification) {
            guard let spelt = Self.spelt(text) else { return nil }
            self = spelt
            return
        }
        guard let parts = graph.sequence(identification), parts.count >= 5, graph.string(parts[0]) == "storage",
            let global = graph.global(parts[1]), let type = TorchTypes.storageType(global),
            let key = graph.string(parts[2]), let count = graph.integer(parts[4]), count >= 0,
            let byteCount = count.multiplied(checked: type.byteWidth ?? 1)
        else { return nil }
        self.key = key
        scalarType = type
        className = global.name
        self.byteCount = byteCount
        self.count = count
        if parts.count > 5, let piece = graph.sequence(parts[5]) {
            guard piece.count == 3, let first = graph.integer(piece[1]), let size = graph.integer(piece[2]),
                first >= 0, size >= 0, first.adding(checked: size).map({ $0 <= count }) == true
            else { return nil }
            offset = first
            self.count = size
        }
    }

    /// In protocol 0 the identification is text, as Python's `repr` has it:
    /// `('storage', <class 'torch.FloatStorage'>, '0', 'cpu', 2)`.
    private static func spelt(_ text: String) -> TorchStorageName? {
        guard text.hasPrefix("("), text.hasSuffix(")") else { return nil }
        var parts: [String] = []
        for part in text.dropFirst().dropLast().split(separator: ",") {
            parts.append(String(part.drop { $0 == " " }))
        }
        func unquoted(_ part: String) -> String? {
            guard part.utf8.count >= 2, part.first == "'", part.last == "'" else { return nil }
            return String(part.dropFirst().dropLast())
        }
        guard parts.count == 5 || parts.count == 6 && parts[5] == "None", unquoted(parts[0]) == "storage",
            parts[1].hasPrefix("<class "), parts[1].hasSuffix(">"),
            let path = unquoted(String(parts[1].dropFirst("<class ".count).dropLast())),
            let dot = path.lastIndex(of: "."), let key = unquoted(parts[2]), let count = Int(parts[4]), count >= 0
        else { return nil }
        let global = PickleGraph.Global(module: String(path[..<dot]), name: String(path[path.index(after: dot)...]))
        guard let type = TorchTypes.storageType(global),
            let byteCount = count.multiplied(checked: type.byteWidth ?? 1)
        else { return nil }
        return TorchStorageName(
            key: key, scalarType: type, className: global.name, byteCount: byteCount, count: count)
    }

    private init(key: String, scalarType: ScalarType, className: String, byteCount: Int, count: Int) {
        self.key = key
        self.scalarType = scalarType
        self.className = className
        self.byteCount = byteCount
        self.count = count
    }
}
