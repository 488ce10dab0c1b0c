import CairnBase
package import CairnStorage
import CairnTensor

/// What every writer of files shares: the order of calls, the counting of bytes, and one end.
///
/// A format says what comes (``open(tensors:values:structure:)``), takes the bytes of one item after the other, and closes its
/// files. An item is a tensor that has bytes of its own, or a part of one; those without bytes begin and end like all others.
/// An error is final: what follows it is ``CheckpointWriter/discard()``.
///
/// ```swift
/// final class RawWriter: TensorStreamWriter {
///     var stream = TensorStream()
///     …
///     func open(tensors: [TensorDescription], values: [NamedValue], structure: StateNode?) throws -> TensorStream.Plan {
///         file = try storage.create(destination, byteCount: tensors.totalByteCount)
///         return TensorStream.Plan(tensors: tensors, notes: values.isEmpty ? [] : ["the values are left out"])
///     }
///     func write(_ bytes: RawSpan, at offset: Int, of item: Int) throws { try file.write(bytes, at: starts[item] + offset) }
///     func close() throws { try file.finish(byteCount: total) }
///     func abandon() { file?.discard() }
/// }
/// ```
package protocol TensorStreamWriter: CheckpointWriter {
    /// Where the writer stands; `TensorStream()` at first. Only this protocol's methods change it.
    var stream: TensorStream { get set }

    /// The file or directory that is written, for messages.
    var destination: String { get }

    /// Makes the files, as far as they can be before any element is known.
    ///
    /// - Parameter structure: How tensors and values belong together; `nil` when that is not known.
    /// - Returns: The items in the order in which their bytes come, and what the format cannot carry over.
    func open(tensors: [TensorDescription], values: [NamedValue], structure: StateNode?) throws -> TensorStream.Plan

    /// The item is the next one whose bytes come.
    func beginItem(_ item: Int) throws

    /// Takes bytes of an item; `offset` is how many came before.
    func write(_ bytes: RawSpan, at offset: Int, of item: Int) throws

    /// All bytes of the item have come.
    func endItem(_ item: Int) throws

    /// All items have come: makes the checkpoint whole, durable and visible.
    func close() throws

    /// Removes what was written. Called once at most, and never after a ``close()`` that returned.
    func abandon()
}

/// Where a ``TensorStreamWriter`` stands.
package struct TensorStream: Sendable {
    /// A run of bytes that comes front to back: a tensor, or a part of one.
    package struct Item: Sendable {
        /// The name of the tensor.
        package var tensor: String
        package var byteCount: Int

        package init(tensor: String, byteCount: Int) {
            self.tensor = tensor
            self.byteCount = byteCount
        }
    }

    /// What a format expects, and what it has to say.
    package struct Plan: Sendable {
        /// The items in the order in which their bytes come.
        package var items: [Item]
        /// What the format cannot carry over, a sentence each.
        package var notes: [String]
        /// How many of the first items an interrupted writer of the same has written already.
        package var resumedCount = 0

        package init(items: [Item], notes: [String] = []) {
            self.items = items
            self.notes = notes
        }

        /// An item for each tensor that is not tied to another.
        package init(tensors: [TensorDescription], notes: [String] = []) {
            self.init(
                items: tensors.lazy.filter { $0.tiedTo == nil }.map { Item(tensor: $0.name, byteCount: $0.byteCount) },
                notes: notes)
        }
    }

    fileprivate enum Phase {
        case new, open, failed, finished, discarded
    }

    fileprivate var phase = Phase.new
    fileprivate var items: [Item] = []
    /// The item whose bytes come, and how many of them have come.
    fileprivate var position = 0
    fileprivate var byteCount = 0

    package init() {}

    fileprivate var current: Item? { position < items.count ? items[position] : nil }

    fileprivate mutating func advance() {
        position += 1
        byteCount = 0
    }
}

extension TensorStreamWriter {
    package func beginItem(_ item: Int) throws {}

    package func endItem(_ item: Int) throws {}

    public func begin(tensors: [TensorDescription], values: [NamedValue]) throws -> [String] {
        try begin(tensors: tensors, values: values, structure: nil)
    }

    /// - Throws: ``CairnError/Code/invalidArgument`` when the writer has begun before; what the format throws.
    public func begin(
        tensors: [TensorDescription], values: [NamedValue], structure: StateNode?
    ) throws -> [String] {
        guard stream.phase == .new else {
            throw CairnError(.invalidArgument, "the writer has begun before", .init(file: destination))
        }
        return try orFail {
            let plan = try open(tensors: tensors, values: values, structure: structure)
            stream.items = plan.items
            stream.position = min(plan.resumedCount, plan.items.count)
            stream.phase = .open
            try beginItems()
            return plan.notes
        }
    }

    /// - Throws: ``CairnError/Code/invalidArgument`` out of order, and for more bytes than the tensors have; what the format
    ///   throws.
    public func append(_ bytes: RawSpan) throws {
        guard stream.phase == .open else { throw wrongOrder("append") }
        do {
            var begin = 0
            while begin < bytes.byteCount {
                guard let item = stream.current else {
                    throw CairnError(
                        .invalidArgument, "more bytes were written than the tensors have", .init(file: destination))
                }
                let count = min(bytes.byteCount - begin, item.byteCount - stream.byteCount)
                try write(bytes.extracting(begin..<begin + count), at: stream.byteCount, of: stream.position)
                stream.byteCount += count
                begin += count
                if stream.byteCount == item.byteCount {
                    try endItem(stream.position)
                    stream.advance()
                    try beginItems()
                }
            }
        } catch {
            stream.phase = .failed
            throw error
        }
    }

    /// - Throws: ``CairnError/Code/incomplete``, naming the tensor, when bytes are missing; what the format throws.
    public func finish() throws {
        guard stream.phase == .open else { throw wrongOrder("finish") }
        try orFail {
            if let item = stream.current {
                throw CairnError(
                    .incomplete, "not all bytes of a tensor were written",
                    .init(file: destination, tensor: item.tensor, expected: "\(item.byteCount)", found: "\(stream.byteCount)"))
            }
            try close()
            stream.phase = .finished
        }
    }

    public func discard() {
        guard stream.phase != .finished, stream.phase != .discarded else { return }
        stream.phase = .discarded
        abandon()
    }

    /// Begins the next item that has bytes; those without any begin and end.
    private func beginItems() throws {
        while let item = stream.current {
            try beginItem(stream.position)
            guard item.byteCount == 0 else { return }
            try endItem(stream.position)
            stream.advance()
        }
    }

    private func orFail<Result>(_ body: () throws -> Result) throws -> Result {
        do {
            return try body()
        } catch {
            stream.phase = .failed
            throw error
        }
    }

    private func wrongOrder(_ call: String) -> CairnError {
        CairnError(
            .invalidArgument,
            stream.phase == .failed ? "\(call) was called after an error" : "\(call) was called before begin or after the end",
            .init(file: destination))
    }
}

extension StateNode {
    /// What a format does not keep of a state, a sentence each.
    package static func losses(of structure: StateNode?, in format: StateLosses.Format) -> [String] {
        structure.map { StateLosses(of: $0, in: format).notes } ?? []
    }
}

extension Storage {
    /// Throws ``CairnError/Code/alreadyExists`` when there is an object of this name.
    package func refuseExisting(_ key: String) throws {
        guard try list(key).contains(where: { ExactString($0.key) == ExactString(key) }) else { return }
        throw CairnError(
            .alreadyExists, "there is a file of this name",
            .init(file: location(of: key), advice: "choose another name, or allow replacing it"))
    }
}
