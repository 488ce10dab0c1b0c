import Synchronization

/// Tells apart storages and disks that call different objects by the same names, as those in memory do: no two are equal. What
/// is known of one must not be believed of another, not even of one that has its address when it is gone.
public struct Distinction: Sendable, Hashable {
    private static let last = Atomic(0)
    private let number = Self.last.add(1, ordering: .relaxed).newValue

    public init() {}
}
