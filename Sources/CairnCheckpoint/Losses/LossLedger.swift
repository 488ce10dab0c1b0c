import CairnBase
package import CairnTensor
import Synchronization

/// What conversions of tensors have lost so far: written by the conversions, from any thread, read when all is done.
///
/// What is read twice counts once, as long as it is read in the same parts.
package final class LossLedger: Sendable {
    private struct TensorLoss {
        var source: ScalarType
        var target: ScalarType
        var elementCount: Int
        var losses: [Region: ConversionLoss] = [:]
    }

    private let tensors = Mutex<[ExactString: TensorLoss]>([:])

    package init() {}

    /// Records what a region of a tensor lost.
    package func add(
        _ loss: ConversionLoss, in region: Region, of name: String, shape: Shape, from source: ScalarType,
        to target: ScalarType
    ) {
        guard !loss.isEmpty else { return }
        tensors.withLock {
            $0[ExactString(name), default: TensorLoss(source: source, target: target, elementCount: shape.elementCount)]
                .losses[region] = loss
        }
    }

    /// A note or two for each tensor that lost something, sorted by name.
    package var notes: [LossNote] {
        tensors.withLock { tensors in
            tensors.sorted { $0.key < $1.key }.flatMap { name, tensor -> [LossNote] in
                let total = tensor.losses.values.reduce(ConversionLoss(), +)
                var notes: [LossNote] = []
                if total.overflowCount > 0 {
                    notes.append(
                        LossNote(
                            name: name.string,
                            kind: .overflow(
                                count: total.overflowCount, of: tensor.elementCount, greatest: total.greatestOverflow,
                                to: tensor.target)))
                }
                if total.changeCount > 0 {
                    notes.append(
                        LossNote(
                            name: name.string,
                            kind: .change(
                                count: total.changeCount, of: tensor.elementCount, from: tensor.source,
                                to: tensor.target)))
                }
                return notes
            }
        }
    }
}
