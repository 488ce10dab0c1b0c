import Synchronization

/// Things that are dear to make, kept from one user to the next: memory that is touched for the first time costs many times a
/// copy.
package final class RecyclingPool<Item: Sendable>: Sendable {
    private let idle = Mutex<[Item]>([])
    private let limit: Int

    /// - Parameter limit: The most things that are kept.
    package init(limit: Int = .max) { self.limit = limit }

    /// A thing that nobody uses, the last that came back; `nil` where none is fit.
    package func take(where isFit: (Item) -> Bool = { _ in true }) -> Item? {
        idle.withLock { idle in idle.lastIndex(where: isFit).map { idle.remove(at: $0) } }
    }

    /// Keeps a thing for the next user, or lets it go where there are enough.
    package func give(_ item: Item) {
        idle.withLock { if $0.count < limit { $0.append(item) } }
    }

    /// Calls `body` with a thing that no other caller uses meanwhile, as its last user left it or made anew.
    package func with<Result, Failure: Error>(
        _ make: @autoclosure () -> Item, _ body: (inout Item) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        var item = take() ?? make()
        defer { give(item) }
        return try body(&item)
    }

    /// What is kept, none of it in use.
    package var all: [Item] { idle.withLock { $0 } }
}
