import CairnBase
public import CairnCheckpoint
import CairnTensor

/// Which tensors of a training checkpoint are the model's, where its names tell.
///
/// An average of moments, of step counters or of states of random generators means nothing: what averages checkpoints takes
/// the model's tensors alone. Names tell in three ways:
///
/// - DeepSpeed's, one suffix for each part of a parameter: `NAME.param`, `NAME.fp32` and `NAME.buffer` are the model's,
///   `NAME.exp_avg` and what else there is are not.
/// - A state that has the model beside an optimizer or a generator, each in a group: `model.…`, `state_dict.…` beside
///   `optimizer.…`, `optimizer_states.…`, `rng.…`. All of it may lie in a group of its own, as `app.model.…` does.
/// - A model's tensors without a group beside an optimizer's: all but those are the model's.
public struct ModelTensors: Sendable {
    /// What is left out: the names' beginnings or endings, such as `optimizer.…` and `….exp_avg`, and how many tensors
    /// each has.
    public let leftOut: [(part: String, count: Int)]
    private let taken: Set<ExactString>

    private static let modelGroups: Set<String> = [
        "model", "models", "module", "modules", "net", "network", "state_dict", "model_state", "model_state_dict",
        "model_weights", "params", "weights",
    ]

    /// Groups that only a training state has.
    private static func isTrainingGroup(_ group: String) -> Bool {
        let name = group.lowercased()
        return ["optimizer", "optim", "opt_state", "rng", "random_state", "torch_rng", "cuda_rng", "numpy_rng", "python_rng"]
            .contains { name == $0 || name.hasPrefix($0 + "_") || name == $0 + "s" }
    }

    /// `nil` for a checkpoint that does not tell, or has nothing else.
    public init?(of reader: any CheckpointReader) {
        let names = reader.tensors.map(\.name)
        guard let found = Self.suffixed(names) ?? Self.grouped(names, values: reader.values.map(\.name)),
            found.contains(where: \.isLeftOut), found.contains(where: { !$0.isLeftOut })
        else { return nil }
        var taken: Set<ExactString> = [], counts: [String: Int] = [:], order: [String] = []
        for (name, part) in zip(names, found) {
            if !part.isLeftOut {
                taken.insert(ExactString(name))
            } else {
                if counts[part.name] == nil { order.append(part.name) }
                counts[part.name, default: 0] += 1
            }
        }
        // Values belong to the model, or to no group that has anything else.
        let others = Set(order)
        for value in reader.values {
            let group = Self.group(of: value.name)
            if !Self.isTrainingGroup(group), !others.contains(group + ".…"), !others.contains(group + "/…") {
                taken.insert(ExactString(value.name))
            }
        }
        self.taken = taken
        leftOut = order.map { ($0, counts[$0] ?? 0) }
    }

    /// Whether a tensor is the model's, or a value goes with it.
    package func contains(_ name: String) -> Bool { taken.contains(ExactString(name)) }

    /// The checkpoint with nothing else.
    public func view(_ reader: any CheckpointReader) -> any CheckpointReader {
        SelectedReader(reader, where: contains)
    }

    /// Such as `optimizer.… (40), rng.… (1)`.
    package var leftOutText: String {
        leftOut.map { "\($0.part) (\($0.count))" }.joined(separator: ", ")
    }

    private struct NameGroup {
        let name: String
        let isLeftOut: Bool
    }

    /// The parts of DeepSpeed's parameters, by the last part of each name; `nil` for other names.
    private static func suffixed(_ names: [String]) -> [NameGroup]? {
        func split(_ name: String) -> (parameter: Substring, part: Substring)? {
            name.lastIndex(of: ".").map { (name[..<$0], name[name.index(after: $0)...]) }
        }
        var parameters: Set<Substring> = [], masters: Set<Substring> = []
        for case let (parameter, part)? in names.map(split) {
            if part == "param" { parameters.insert(parameter) }
            if part == "fp32" { masters.insert(parameter) }
        }
        guard !masters.isEmpty || !parameters.isEmpty else { return nil }
        let known = parameters.union(masters)
        var found: [NameGroup] = []
        for name in names {
            guard let (parameter, part) = split(name) else { return nil }
            let isModel = ["param", "fp32", "buffer"].contains(part)
            guard isModel || known.contains(parameter) else { return nil }
            found.append(NameGroup(name: "….\(part)", isLeftOut: !isModel))
        }
        return found
    }

    /// Groups by the first part of each name that is not common to all; `nil` where none is of a training state.
    private static func grouped(_ names: [String], values: [String]) -> [NameGroup]? {
        var paths = names.map { $0.split(separator: $0.contains("/") ? "/" : ".", omittingEmptySubsequences: false)[...] }
        while let first = paths.first?.first, paths.allSatisfy({ $0.count > 1 && $0.first == first }) {
            // A model alone may have a part that is called as an optimizer is.
            if modelGroups.contains(String(first)) { break }
            for index in paths.indices { paths[index].removeFirst() }
        }
        let groups = paths.map { $0.count > 1 ? String($0.first ?? "") : "" }
        let hasModel = groups.contains { modelGroups.contains($0) }
        let hasTraining =
            paths.contains { isTrainingGroup(String($0.first ?? "")) }
            || hasModel && values.contains { isTrainingGroup(group(of: $0)) }
        guard hasTraining else { return nil }
        return zip(names, paths).map { name, path in
            let first = String(path.first ?? "")
            let isModel = hasModel ? path.count > 1 && modelGroups.contains(first) : !isTrainingGroup(first)
            let separator = name.contains("/") ? "/" : "."
            return NameGroup(name: path.count > 1 ? "\(first)\(separator)…" : first, isLeftOut: !isModel)
        }
    }

    private static func group(of name: String) -> String {
        String(name.prefix { $0 != "." && $0 != "/" })
    }
}

/// Tensors of a model that an average does not make right: statistics of the data that batch normalization has seen.
package enum BatchStatistics {
    /// A counter of batches, which no average has a use for.
    static func isCounter(_ name: String) -> Bool { last(of: name) == "num_batches_tracked" }

    /// What is to be said of a model that was made of others: `nil` if it has no such statistics.
    package static func note(of tensors: [TensorDescription]) -> String? {
        let statistics = tensors.filter { tensor in
            ["running_mean", "running_var", "moving_mean", "moving_variance"].contains(last(of: tensor.name))
        }
        let counters = tensors.filter { isCounter($0.name) && !$0.scalarType.hasAverage }
        guard !statistics.isEmpty || !counters.isEmpty else { return nil }
        var parts: [String] = []
        if !statistics.isEmpty {
            parts.append("\(statistics.count) statistics of batch normalization are merged as weights are")
        }
        if !counters.isEmpty { parts.append("\(counters.count) num_batches_tracked are the last input's") }
        return parts.joined(separator: ", ") + ": recompute them on data with the merged weights"
    }

    private static func last(of name: String) -> Substring {
        var last = name[(name.lastIndex { $0 == "." || $0 == "/" }.map(name.index(after:)) ?? name.startIndex)...]
        if last.hasSuffix(":0") { last = last.dropLast(2) }
        return last
    }
}
