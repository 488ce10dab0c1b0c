import CairnBase
package import CairnTensor
import Synchronization

/// What conversions of tensors have lost so far: written by whoever converts, from any thread, read when all is done.
///
/// What is read twice counts once, as long as it is read in the same parts.
package final class LossLedger: Sendable {
    private struct Account {
        var source: ScalarType
        var target: ScalarType
        var elementCount: Int
        var losses: [Region: ConversionLoss] = [:]
    }

    private let accounts = Mutex<[ExactString: Account]>([:])

    package init() {}

    /// Notes what a region of a tensor lost.
    package func add(
        _ loss: ConversionLoss, in region: Region, of name: String, shape: Shape, from source: ScalarType,
        to target: ScalarType
    ) {
        guard !loss.isEmpty else { return }
        accounts.withLock {
            $0[ExactString(name), default: Account(source: source, target: target, elementCount: shape.elementCount)]
                .losses[region] = loss
        }
    }

    /// A note or two for each tensor that lost something, sorted by name.
    package var notes: [LossNote] {
        accounts.withLock { accounts in
            accounts.sorted { $0.key < $1.key }.flatMap { name, account -> [LossNote] in
                let total = account.losses.values.reduce(ConversionLoss(), +)
                var notes: [LossNote] = []
                if total.overflowCount > 0 {
                    notes.append(
                        LossNote(
                            name: name.string,
                            kind: .overflow(
                                count: total.overflowCount, of: account.elementCount, greatest: total.greatestOverflow,
                                to: account.target)))
                }
                if total.changeCount > 0 {
                    notes.append(
                        LossNote(
                            name: name.string,
                            kind: .change(
                                count: total.changeCount, of: account.elementCount, from: account.source,
                                to: account.target)))
                }
                return notes
            }
        }
    }
}
