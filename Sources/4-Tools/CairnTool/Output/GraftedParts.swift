import CairnBase
import CairnCheckpoint
import CairnTensor

/// From which checkpoints the parts of one are, as its lineage says.
struct GraftedParts {
    struct Part {
        var patterns: [String]
        var tensorCount: Int
        var step: Int?
        var source: String?
    }

    private(set) var all: [Part] = []

    var isEmpty: Bool { all.isEmpty }

    init(_ lineage: Lineage?) {
        guard let lineage, lineage.operation == "graft", case .list(let parts)? = lineage.details["parts"] else { return }
        for (part, parent) in zip(parts, lineage.parents.dropFirst()) {
            guard case .list(let patterns)? = part["patterns"], let count = part["tensors"]?.int else { continue }
            all.append(
                Part(patterns: patterns.compactMap(\.string), tensorCount: count, step: parent.step, source: parent.source))
        }
    }

    /// What safetensors files keep as text.
    init(of reader: any CheckpointReader, lineage: Lineage?) {
        guard lineage == nil, case .string(let text)? = reader.metadata.first(where: { $0.name == "cairn.lineage" })?.value else {
            self.init(lineage)
            return
        }
        self.init(nil)
        // Text of others that is no lineage says nothing.
        guard let object = try? JSONValue(parsing: text).asObject(), (try? object.string("operation")) == "graft",
            let parts = try? object.object("details").array("parts"), let parents = try? object.array("parents")
        else { return }
        for (part, parent) in zip(parts, parents.dropFirst()) {
            guard let part = try? part.asObject(), let patterns = try? part.array("patterns"),
                let count = try? part.integer("tensors"), let parent = try? parent.asObject()
            else { continue }
            all.append(
                Part(
                    patterns: patterns.compactMap { try? $0.asString() }, tensorCount: count, step: try? parent.integer("step"),
                    source: try? parent.string("source")))
        }
    }

    /// `experts.7.* (2 tensors) of step 360 of runs/moe; …`
    var text: String {
        all.map { part in
            let origin = [part.step.map { "step \($0)" }, part.source].compactMap(\.self).joined(separator: " of ")
            return "\(part.patterns.joined(separator: ", ")) (\(NumberText.count(part.tensorCount, "tensor"))) of \(origin)"
        }.joined(separator: "; ")
    }

    /// `[{"patterns": […], "tensors": 2, "step": 360, "source": …}]`
    var document: JSONValue {
        .array(
            all.map { part in
                [
                    "patterns": .strings(part.patterns), "tensors": .count(part.tensorCount),
                    "step": part.step.map { .count($0) } ?? .null, "source": .optional(part.source),
                ]
            })
    }
}
