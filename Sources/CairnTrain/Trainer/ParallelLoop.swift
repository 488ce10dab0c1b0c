internal import CairnBase

/// Loops whose iterations write to places of their own.
enum ParallelLoop {
    /// Calls `body` once for each index below `count`, on as many threads as there are processors.
    static func run(_ count: Int, _ body: @escaping @Sendable (Int) -> Void) {
        do {
            try ThreadPool.shared.forEach(count, width: ThreadPool.processorCount, body)
        } catch {
            preconditionFailure("a body that cannot throw threw \(error)")
        }
    }
}

/// An array that several threads write to.
///
/// `@unchecked Sendable`: each index belongs to one iteration of the loop that uses it.
struct SharedElements<Element>: @unchecked Sendable {
    let elements: UnsafeMutableBufferPointer<Element>

    init(_ elements: UnsafeMutableBufferPointer<Element>) { self.elements = elements }

    subscript(index: Int) -> Element {
        get { elements[index] }
        nonmutating _modify { yield &elements[index] }
    }
}
