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
