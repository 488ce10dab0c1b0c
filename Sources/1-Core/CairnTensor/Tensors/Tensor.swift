public import CairnBase

/// A contiguous row-major array of numbers with value semantics.
///
/// Copying a tensor copies a reference; the bytes are copied when one of the copies is written. So a copy is a snapshot:
/// taking one costs nothing, whatever the size, and later writes to the original leave it as it is. The bytes live in
/// memory of their own, in a ``BufferPool``, in a mapped file or with another owner; the last two are never written.
public struct Tensor: Sendable {
    /// The bytes. Shared with every copy and slice.
    package private(set) var storage: TensorStorage
    /// Where this tensor's bytes begin in ``storage``.
    package private(set) var byteOffset: Int
    /// The type of the elements.
    public let scalarType: ScalarType
    /// The extents, outermost first.
    public let shape: Shape
    /// How many bytes the elements fill.
    public let byteCount: Int

    package init(storage: TensorStorage, byteOffset: Int, _ scalarType: ScalarType, _ shape: Shape, byteCount: Int) {
        self.storage = storage
        self.byteOffset = byteOffset
        self.scalarType = scalarType
        self.shape = shape
        self.byteCount = byteCount
    }

    /// A tensor whose bytes `initialize` fills in; it must write every one.
    ///
    /// - Parameter pool: where the memory comes from and goes back to; `nil` takes memory of its own.
    /// - Throws: ``CairnError/Code/invalidArgument`` when packed elements do not fill whole bytes or the size overflows;
    ///   what `initialize` throws.
    public init(
        _ scalarType: ScalarType, _ shape: Shape, pool: BufferPool? = nil,
        initializingWith initialize: (inout MutableRawSpan) throws -> Void
    ) throws {
        let storage = try Self.memory(scalarType, shape, pool: pool)
        var span = MutableRawSpan(
            _unsafeStart: storage.base, byteCount: storage.byteCount)
        try initialize(&span)
        self.init(storage: storage, byteOffset: 0, scalarType, shape, byteCount: storage.byteCount)
    }

    /// A tensor of zero bytes.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` when packed elements do not fill whole bytes or the size overflows.
    public init(zeros scalarType: ScalarType, _ shape: Shape, pool: BufferPool? = nil) throws(CairnError) {
        let storage = try Self.memory(scalarType, shape, pool: pool)
        storage.base.initializeMemory(as: UInt8.self, repeating: 0, count: storage.byteCount)
        self.init(storage: storage, byteOffset: 0, scalarType, shape, byteCount: storage.byteCount)
    }

    /// A tensor with a copy of `bytes`: row-major, little-endian.
    ///
    /// - Throws: ``CairnError/Code/mismatch`` when the number of bytes is not what type and shape need.
    public init(_ scalarType: ScalarType, _ shape: Shape, copying bytes: RawSpan) throws(CairnError) {
        let needed = try Self.byteCount(scalarType, shape)
        guard needed == bytes.byteCount else {
            throw CairnError(
                .mismatch, "the bytes do not fit the tensor",
                .init(expected: "\(needed) bytes for \(scalarType)\(shape)", found: "\(bytes.byteCount) bytes"))
        }
        let storage = try Self.memory(scalarType, shape, pool: nil)
        bytes.withUnsafeBytes { source in
            if let start = source.baseAddress { storage.base.copyMemory(from: start, byteCount: needed) }
        }
        self.init(storage: storage, byteOffset: 0, scalarType, shape, byteCount: needed)
    }

    /// A tensor over memory with another owner: a mapped file, an array of another framework.
    ///
    /// The memory must stay unchanged and alive as long as `owner` does; it is copied before any write through this
    /// type.
    ///
    /// - Throws: ``CairnError/Code/mismatch`` when `bytes` has another size than type and shape need.
    public init(
        _ scalarType: ScalarType, _ shape: Shape, borrowing bytes: UnsafeRawBufferPointer,
        keptAliveBy owner: any AnyObject & Sendable
    ) throws(CairnError) {
        let needed = try Self.byteCount(scalarType, shape)
        guard needed == bytes.count else {
            throw CairnError(
                .mismatch, "the memory does not fit the tensor",
                .init(expected: "\(needed) bytes for \(scalarType)\(shape)", found: "\(bytes.count) bytes"))
        }
        // An empty buffer may have no address; the tensor then has nothing to point at.
        guard let base = bytes.baseAddress else {
            self = try Tensor(zeros: scalarType, shape)
            return
        }
        let storage = TensorStorage(readOnly: base, byteCount: needed, owner: owner)
        self.init(storage: storage, byteOffset: 0, scalarType, shape, byteCount: needed)
    }

    /// No tensor in memory has more bytes: the size of the machine's memory.
    package static var greatestByteCount: Int { AlignedMemory.greatestByteCount }

    /// Memory for a tensor of this type and shape.
    ///
    /// - Throws: ``CairnError/Code/noSpace`` for more than the machine has.
    static func memory(
        _ scalarType: ScalarType, _ shape: Shape, pool: BufferPool?
    ) throws(CairnError) -> TensorStorage {
        let needed = try byteCount(scalarType, shape)
        guard needed <= greatestByteCount else {
            throw CairnError(
                .noSpace, "a tensor is larger than the memory of this machine",
                .init(
                    expected: "at most \(greatestByteCount) bytes",
                    found: "\(scalarType)\(shape), which is \(needed)", advice: "read it in parts"))
        }
        return TensorStorage(byteCount: needed, pool: pool)
    }

    /// The bytes that a tensor of this type and shape fills.
    package static func byteCount(_ scalarType: ScalarType, _ shape: Shape) throws(CairnError) -> Int {
        guard let count = scalarType.byteCount(elementCount: shape.elementCount) else {
            throw CairnError(
                .invalidArgument, "the elements do not fill a representable number of whole bytes",
                .init(found: "\(scalarType)\(shape)"))
        }
        return count
    }
}

extension Tensor {
    /// The bytes, row-major and little-endian.
    public var bytes: RawSpan {
        @_lifetime(borrow self)
        get { RawSpan(storage.base + byteOffset, byteCount: byteCount, borrowing: self) }
    }

    /// The bytes for writing. Copies them first when another tensor shares them or they are not ours to write.
    public var mutableBytes: MutableRawSpan {
        @_lifetime(&self)
        mutating get {
            makeUnique()
            let (start, byteCount) = (storage.base + byteOffset, byteCount)
            return MutableRawSpan(start, byteCount: byteCount, mutating: &self)
        }
    }

    /// Whether a write would go in place: the bytes are not shared, and they are ours.
    package mutating func isUnique() -> Bool {
        storage.isWritable && isKnownUniquelyReferenced(&storage)
    }

    private mutating func makeUnique() {
        let target = storageForUpdate(pool: nil)
        guard target !== storage else { return }
        target.base.copyMemory(from: storage.base + byteOffset, byteCount: byteCount)
        storage = target
        byteOffset = 0
    }

    /// Where new bytes go: in place when the old ones are not shared, else into memory of `pool` or of the tensor's own
    /// pool, within what that pool allows.
    private mutating func storageForUpdate(pool: BufferPool?) -> TensorStorage {
        if isUnique() { return storage.forWriting() }
        let pool = pool ?? storage.pool
        if let budget = pool?.copies, storage.isWritable {
            guard budget.admit(storage.byteCount, isUnique: { isUnique() }) else { return storage.forWriting() }
            storage.keepCharge(to: budget)
        }
        return TensorStorage(byteCount: byteCount, pool: pool)
    }

    /// Calls `body` with the current elements and with where the new ones go; both are the same memory when no other tensor
    /// shares it.
    ///
    /// An update that reads each old element before it writes the new one at that index costs no copy in either case: it
    /// runs in place, or writes into a recycled buffer of `pool` and leaves the old bytes to the tensors that share them.
    /// `body` must write every element.
    public mutating func rewrite<Element: TensorScalar, Result>(
        as type: Element.Type, pool: BufferPool? = nil,
        _ body: (_ old: UnsafeBufferPointer<Element>, _ new: UnsafeMutableBufferPointer<Element>) throws -> Result
    ) rethrows -> Result {
        precondition(scalarType == Element.scalarType, "elements of \(scalarType) rewritten as \(Element.scalarType)")
        let target = storageForUpdate(pool: pool)
        let targetOffset = target === storage ? byteOffset : 0
        let count = shape.elementCount
        let old = UnsafeBufferPointer(
            start: (storage.base + byteOffset).assumingMemoryBound(to: Element.self), count: count)
        let new = UnsafeMutableBufferPointer(
            start: (target.base + targetOffset).assumingMemoryBound(to: Element.self), count: count)
        let result = try body(old, new)
        storage = target
        byteOffset = targetOffset
        return result
    }

    /// Replaces all bytes by what `body` writes: in place when the old ones are not shared, else into memory of `pool`.
    ///
    /// When `body` throws, a tensor that is not shared holds what was written so far.
    public mutating func overwrite(
        pool: BufferPool? = nil, _ body: (_ new: inout MutableRawSpan) throws -> Void
    ) rethrows {
        let target = storageForUpdate(pool: pool)
        let targetOffset = target === storage ? byteOffset : 0
        var span = MutableRawSpan(_unsafeStart: target.base + targetOffset, byteCount: byteCount)
        try body(&span)
        storage = target
        byteOffset = targetOffset
    }

    /// The same bytes under another shape of as many elements, without copying.
    ///
    /// - Throws: ``CairnError/Code/mismatch`` when the element counts differ.
    public func reshaped(_ shape: Shape) throws(CairnError) -> Tensor {
        guard shape.elementCount == self.shape.elementCount else {
            throw CairnError(
                .mismatch, "a reshape keeps the number of elements",
                .init(expected: "\(self.shape.elementCount)", found: "\(shape.elementCount)"))
        }
        return Tensor(storage: storage, byteOffset: byteOffset, scalarType, shape, byteCount: byteCount)
    }

    /// A copy of the elements of `region`.
    ///
    /// - Throws: ``CairnError/Code/mismatch`` when the region lies outside.
    package func copy(of region: Region, pool: BufferPool? = nil) throws -> Tensor {
        try Tensor(scalarType, region.shape, pool: pool) { destination in
            try RegionCopy.copy(
                scalarType, from: bytes, of: shape, region: region,
                into: &destination, of: region.shape, region: Region(whole: region.shape))
        }
    }

    /// Gives the bytes back to a budget that they are charged to when they are freed.
    package func keepCharge(to budget: CopyBudget) { storage.keepCharge(to: budget) }

    /// Whether both refer to the very same bytes, without looking at them.
    package func sharesBytes(with other: Tensor) -> Bool {
        storage === other.storage && byteOffset == other.byteOffset && byteCount == other.byteCount
    }
}

extension Tensor: Equatable {
    /// Whether type, shape and every byte are the same. NaNs are equal when their bits are; zeros of either sign differ.
    public static func == (left: Tensor, right: Tensor) -> Bool {
        guard left.scalarType == right.scalarType, left.shape == right.shape else { return false }
        if left.sharesBytes(with: right) { return true }
        return left.bytes.withUnsafeBytes { first in
            right.bytes.withUnsafeBytes { second in first.elementsEqualAsMemory(second) }
        }
    }
}

extension Tensor: CustomStringConvertible {
    /// `Tensor(F32[4096, 1024], 16777216 bytes)`
    public var description: String { "Tensor(\(scalarType)\(shape), \(byteCount) bytes)" }
}

extension Tensor {
    /// The elements in another type; the tensor itself when it has that type already.
    ///
    /// Floats round to nearest even; see ``OverflowBehavior`` for values that do not fit.
    ///
    /// - Throws: ``CairnError/Code/unsupported`` for packed and complex types.
    public func converted(
        to scalarType: ScalarType, overflow: OverflowBehavior = .ieee, pool: BufferPool? = nil
    ) throws -> Tensor {
        if scalarType == self.scalarType { return self }
        return try Tensor(scalarType, shape, pool: pool) { destination in
            try ScalarConversion.convert(
                bytes, from: self.scalarType, into: &destination, to: scalarType, overflow: overflow)
        }
    }
}
