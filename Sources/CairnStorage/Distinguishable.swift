import Synchronization

/// Something that calls different objects by the same names as others of its kind: storages and disks in memory. What is known
/// of one must not be believed of another, not even of one that has its address when it is gone.
package protocol Distinguishable {
    /// A number that nothing else in the process has.
    var distinction: Distinction { get }
}

/// A number that nothing else in the process has.
package struct Distinction: Sendable, Hashable {
    private static let last = Atomic(0)
    private let number = Self.last.add(1, ordering: .relaxed).newValue

    package init() {}
}
