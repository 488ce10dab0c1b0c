import Cairn
import CairnTrain

/// Half of a text's validation windows, every other one: what a search sees, and what its result is reported on.
struct HeldOutPart: ExampleSource {
    enum Half: Int { case search, report }

    let text: TextDataset
    let part: Half
    /// At most so many windows, from all over the half.
    let limit: Int

    private var available: Int { (text.count(.validation) + 1 - part.rawValue) / 2 }

    func count(_ split: Split) -> Int { split == .validation ? min(limit, available) : text.count(split) }

    func append(_ index: Int, of split: Split, to batch: inout Batch) {
        guard split == .validation else { return text.append(index, of: split, to: &batch) }
        text.append(index * available / count(split) * 2 + part.rawValue, of: split, to: &batch)
    }

    var identity: Value { text.identity }
}
