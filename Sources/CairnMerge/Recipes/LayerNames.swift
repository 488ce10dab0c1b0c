import CairnBase
import CairnCheckpoint

/// Which layer a tensor belongs to, by its name: the first part between dots that is a number.
struct LayerName: Hashable {
    /// What comes before the number, with its dot.
    let prefix: String
    let layer: Int
    /// What comes behind the number, with its dot.
    let suffix: String

    /// `nil` for a tensor outside the layers.
    init?(_ name: String) {
        var prefix = ""
        var rest = name[...]
        while let dot = rest.firstIndex(of: ".") {
            let part = rest[..<dot]
            if !part.isEmpty, part.allSatisfy({ ("0"..."9").contains($0) }), let layer = Int(part), "\(layer)" == part,
                !prefix.isEmpty
            {
                self.prefix = prefix
                self.layer = layer
                suffix = String(rest[dot...])
                return
            }
            prefix += part + "."
            rest = rest[rest.index(after: dot)...]
        }
        return nil
    }

    /// The name of the same tensor of another layer.
    func name(ofLayer layer: Int) -> String { "\(prefix)\(layer)\(suffix)" }

    /// How many layers each stack of layers of a checkpoint has, by the names' beginning.
    static func counts(in reader: any CheckpointReader) -> [String: Int] {
        var counts: [String: Int] = [:]
        for tensor in reader.tensors {
            guard let name = LayerName(tensor.name) else { continue }
            counts[name.prefix] = max(counts[name.prefix] ?? 0, name.layer.adding(clamped: 1))
        }
        return counts
    }
}
