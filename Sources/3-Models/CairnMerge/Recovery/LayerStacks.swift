import CairnBase
import CairnCheckpoint
import CairnTensor

/// The numbered layers of a checkpoint, which of them are lost, and which stand beside those.
struct LayerStacks {
    /// Where a lost layer is: between these, or beside one of them.
    struct Neighbours: Hashable {
        let prefix: String
        let before: Int?
        let after: Int?

        /// The one that is copied where one is.
        var nearest: Int? { before ?? after }
    }

    private let source: String
    /// By the beginning of the names, the layers that have tensors.
    private let present: [String: [Int]]
    private let lost: [String: Set<Int>]

    init(_ states: ParameterStates, lost: [ParameterState], source: String) {
        self.source = source
        var present: [String: Set<Int>] = [:], gone: [String: Set<Int>] = [:]
        for layer in states.all.compactMap(\.layer) { present[layer.prefix, default: []].insert(layer.layer) }
        for layer in lost.compactMap(\.layer) { gone[layer.prefix, default: []].insert(layer.layer) }
        self.present = present.mapValues { $0.sorted() }
        self.lost = gone
    }

    /// The layers nearest to a lost one that are not lost.
    ///
    /// - Throws: ``CairnError/Code/incomplete`` where none is left.
    func neighbours(of layer: LayerName) throws(CairnError) -> Neighbours {
        let gone = lost[layer.prefix] ?? []
        let left = (present[layer.prefix] ?? []).filter { !gone.contains($0) }
        let found = Neighbours(
            prefix: layer.prefix, before: left.last { $0 < layer.layer }, after: left.first { $0 > layer.layer })
        guard found.nearest != nil else {
            throw CairnError(
                .incomplete, "all layers of a stack are lost, so that none is left to make them of",
                .init(
                    file: source, expected: "a layer \(layer.prefix)N that is not lost",
                    advice: "take an older checkpoint: --from older:STEP"))
        }
        return found
    }

    /// - Throws: ``CairnError/Code/invalidArgument`` for a layer that is not there or is lost itself.
    func require(_ number: Int, besides layer: LayerName) throws(CairnError) {
        let gone = lost[layer.prefix] ?? []
        guard (present[layer.prefix] ?? []).contains(number), !gone.contains(number) else {
            throw CairnError(
                .invalidArgument, gone.contains(number) ? "the layer to copy is lost itself" : "there is no such layer to copy",
                .init(
                    file: source, expected: "a layer \(layer.prefix)N that is not lost",
                    found: "\(layer.prefix)\(number)"))
        }
    }

    /// Tensors that should be there and are not listed, described as those of the nearest layer that has their like.
    ///
    /// - Parameter older: What describes them too, if there is one.
    /// - Throws: ``CairnError/Code/incomplete`` for one whose type and shape nothing tells.
    static func absent(
        _ lost: LostTensors, _ states: ParameterStates, in reader: any CheckpointReader, older: (any CheckpointReader)?
    ) throws(CairnError) -> [TensorDescription] {
        var numbers: [String: Set<Int>] = [:]
        for layer in states.all.compactMap(\.layer) { numbers[layer.prefix, default: []].insert(layer.layer) }
        let tensors = reader.tensors
        func described(_ name: String, as other: String, in reader: any CheckpointReader) -> TensorDescription? {
            guard let like = try? reader.description(of: other), like.tiedTo == nil else { return nil }
            return TensorDescription(name: name, scalarType: like.scalarType, shape: like.shape)
        }
        var found: [TensorDescription] = []
        for name in lost.absent where tensors.position(of: name) == nil {
            var like = older.flatMap { described(name, as: name, in: $0) }
            if like == nil, let part = StatePart(name), let layer = LayerName(part.parameter) {
                let nearest = (numbers[layer.prefix] ?? []).sorted {
                    (abs($0 - layer.layer), $0) < (abs($1 - layer.layer), $1)
                }
                like = nearest.lazy.compactMap { part.name(inLayer: $0) }.compactMap { described(name, as: $0, in: reader) }.first
            }
            guard let like else {
                throw CairnError(
                    .incomplete, "a lost tensor has no like in the checkpoint that would tell its type and shape",
                    .init(file: reader.source, tensor: name, advice: "take an older checkpoint: --from older:STEP"))
            }
            found.append(like)
        }
        guard lost.absent.isEmpty else { return found }
        // Whole layers between others that are not listed.
        for (prefix, present) in numbers.sorted(by: { ExactString($0.key) < ExactString($1.key) }) {
            guard let last = present.max() else { continue }
            // A stack of more is none of layers: a number that something else goes by.
            for number in 0..<min(last, 1 << 16) where !present.contains(number) {
                let like = present.min { (abs($0 - number), $0) < (abs($1 - number), $1) }
                for state in states.all where state.layer?.prefix == prefix && state.layer?.layer == like {
                    for (part, tensor) in state.parts where tensor.tiedTo == nil {
                        guard let name = part.name(inLayer: number), lost.means(absent: name) else { continue }
                        found.append(TensorDescription(name: name, scalarType: tensor.scalarType, shape: tensor.shape))
                    }
                }
            }
        }
        return found
    }
}
