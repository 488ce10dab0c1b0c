import Cairn
import CairnTrain

/// The losses of a run, one line a step: the step, the loss for people, and its bits.
///
/// Kept beside the store, not in it: after a crash the lines beyond the checkpoint that the run resumes from are dropped,
/// because those steps are taken again.
struct LossLog {
    private(set) var losses: [(step: Int, loss: Double)] = []
    private let storage: LocalStorage
    private let key = "losses.csv"

    init(folder: String) { storage = LocalStorage(root: folder) }

    /// Reads what an earlier process wrote, up to `step` steps.
    mutating func load(upTo step: Int) throws {
        losses = []
        guard let bytes = try? storage.readAll(key, limit: 1 << 30) else { return }
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n").dropFirst() {
            let fields = line.split(separator: ",")
            guard fields.count == 3, let number = Int(fields[0]), number <= step, let bits = UInt64(fields[2], radix: 16)
            else { continue }
            losses.append((number, Double(bitPattern: bits)))
        }
    }

    mutating func append(_ report: Trainer.StepReport) { losses.append((report.step + 1, report.loss)) }

    /// Replaces the file.
    func write() throws {
        var text = "step,loss,bits\n"
        for (step, loss) in losses { text += "\(step),\(loss),\(String(loss.bitPattern, radix: 16))\n" }
        try storage.publish(Array(text.utf8), as: key)
    }
}

/// How far the losses of a run are from those of a reference, step by step.
struct LossDeviation {
    /// The largest difference that rounding alone explains between runs whose ranks add in another order, in nats.
    ///
    /// A hundred times what was measured, a thousandth of what a resume without the optimizer's state is off by: see
    /// `Docs/Training.md`.
    static let tolerance = 1e-5

    /// The absolute differences, for the steps that both have.
    var differences: [(step: Int, loss: Double)] = []
    /// Whether a step of the run is missing in the reference, or a loss is not a number.
    var isIncomplete = false

    init(of run: [(step: Int, loss: Double)], from reference: [(step: Int, loss: Double)]) {
        let expected = Dictionary(reference.map { ($0.step, $0.loss) }, uniquingKeysWith: { $1 })
        for point in run {
            guard let loss = expected[point.step], point.loss.isFinite, loss.isFinite else {
                isIncomplete = true
                continue
            }
            differences.append((point.step, abs(point.loss - loss)))
        }
        if run.isEmpty { isIncomplete = true }
    }

    /// The largest difference and its step.
    var largest: (step: Int, loss: Double)? { differences.max { $0.loss < $1.loss } }

    func isWithin(_ tolerance: Double) -> Bool { !isIncomplete && differences.allSatisfy { $0.loss <= tolerance } }
}
