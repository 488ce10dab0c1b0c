private import CCairnSystem

/// One of the machine's processors.
///
/// Training continues where it called for a snapshot. Writers that run there, too, take its place each time the disk wakes
/// them, although another processor may be idle; kept off it they cost training a third less.
package struct Processor: Hashable {
    private let number: Int32

    /// The one that this thread runs on.
    package static var current: Processor { Processor(number: cairn_current_processor()) }

    /// Keeps this thread off it until the next call for another, as long as there is another that the thread may use.
    package func keepOff() { cairn_keep_off_processor(number) }
}
