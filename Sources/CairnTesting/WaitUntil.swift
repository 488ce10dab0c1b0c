import CairnBase

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Waits for an event of another thread or process, looking again and again. The limit is for what will never come: no
/// machine is so slow that a test which waits fails for it.
///
/// - Throws: ``CairnError/Code/incomplete``, which names the event, when it has not come within the limit.
package func waitUntil(
    _ event: String, within limit: Duration = .seconds(600), _ hasCome: () throws -> Bool
) throws {
    let end = ContinuousClock.now + limit
    while try !hasCome() {
        guard ContinuousClock.now < end else {
            throw CairnError(.incomplete, "the test waited in vain", .init(expected: event, found: "nothing within \(limit)"))
        }
        usleep(2_000)
    }
}
