import Cairn
import CairnTrain

/// Windows of two texts: so many of every eight are the first one's.
struct TextMixture: ExampleSource {
    let texts: TwoTexts
    let eighths: Int

    func count(_ split: Split) -> Int { texts.first.count(split) + texts.second.count(split) }

    func append(_ index: Int, of split: Split, to batch: inout Batch) {
        let (block, place) = (index / 8, index % 8)
        let isFirst = place < eighths
        let text = isFirst ? texts.first : texts.second
        let own = isFirst ? block * eighths + place : block * (8 - eighths) + place - eighths
        text.append(own % text.count(split), of: split, to: &batch)
    }

    var identity: Value {
        .dictionary([
            "kind": .string("mixture"), "first": texts.first.identity, "second": texts.second.identity,
            "eighths": .integer(Int64(eighths)),
        ])
    }
}
