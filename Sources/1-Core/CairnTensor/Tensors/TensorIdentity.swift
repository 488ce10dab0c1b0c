/// Tells later whether a tensor is still the very bytes that it was, without reading them and without holding them.
///
/// It knows memory by its object, and how often that has been written in place. Memory with another owner could be written behind
/// its back, and is never recognised.
///
/// `@unchecked Sendable`: nothing changes but the weak reference, which threads may read at once.
package final class TensorIdentity: @unchecked Sendable {
    private weak var storage: TensorStorage?
    private let writeCount: Int
    private let byteOffset: Int
    private let byteCount: Int

    /// The identity of a tensor as it is now; `nil` where none can be told.
    package init?(_ tensor: Tensor) {
        guard tensor.storage.isWritable else { return nil }
        storage = tensor.storage
        writeCount = tensor.storage.writeCount
        byteOffset = tensor.byteOffset
        byteCount = tensor.byteCount
    }

    /// Whether a tensor has the same bytes at the same place.
    package func isOf(_ tensor: Tensor) -> Bool {
        storage === tensor.storage && tensor.storage.writeCount == writeCount && tensor.byteOffset == byteOffset
            && tensor.byteCount == byteCount
    }
}
