import CairnBase
import CairnCheckpoint
import CairnTensor

/// What a tensor of a training state is to a parameter of the model, by its name.
///
/// Names tell in three ways: `optimizer.exp_avg.NAME` (Cairn's trainer, Megatron with `state` between),
/// `optimizer.state.NAME.exp_avg` (PyTorch's full state dicts), and `NAME.exp_avg` beside `NAME.fp32` (DeepSpeed).
struct StatePart: Hashable {
    enum Kind: Hashable {
        case parameter
        /// The exact weight where the model keeps a rounded one.
        case master
        /// A moving average of the weight.
        case average
        /// What an optimizer gathers over steps, from zero on.
        case moment
        /// Adam's mean of squared gradients.
        case secondMoment
        /// How many steps the moments have seen.
        case step

        /// Whether it starts from zero with the optimizer.
        var isOptimizerState: Bool { self == .moment || self == .secondMoment || self == .step }
    }

    let kind: Kind
    /// What stands before and behind the parameter's name.
    let head: String
    let parameter: String
    let tail: String

    private static let slots: [String: Kind] = [
        "exp_avg": .moment, "exp_avg_sq": .secondMoment, "momentum": .moment, "momentum_buffer": .moment,
        "max_exp_avg_sq": .moment, "exp_inf": .moment, "exp_avg_diff": .moment, "exp_avg_slow": .moment, "master": .master,
        "fp32": .master, "fp32_param": .master, "master_param": .master, "main_param": .master, "step": .step,
    ]

    private static func isOptimizer(_ part: Substring) -> Bool {
        let name = part.lowercased()
        return ["optimizer", "optim", "opt_state"].contains { name == $0 || name.hasPrefix($0 + "_") || name == $0 + "s" }
    }

    /// `nil` for what belongs to an optimizer and to no parameter that its name tells.
    init?(_ name: String) {
        let parts = name.split(separator: ".", omittingEmptySubsequences: false)
        func made(_ kind: Kind, _ range: Range<Int>) -> StatePart {
            let head = parts[..<range.lowerBound].map { $0 + "." }.joined()
            let tail = parts[range.upperBound...].map { "." + $0 }.joined()
            return StatePart(kind, head, parts[range].joined(separator: "."), tail)
        }
        let last = parts.count - 1
        // A state may lie in a group of its own, as `app.optimizer.state` does.
        if let group = parts.prefix(2).firstIndex(where: Self.isOptimizer), group < last {
            var next = group + 1
            if next + 1 < last, parts[next].allSatisfy(\.isNumber), parts[next + 1] == "state" { next += 1 }
            if parts[next] == "state", next < last { next += 1 }
            if let kind = Self.slots[String(parts[next])], next < last {
                self = made(kind, next + 1..<parts.count)
            } else if let kind = Self.slots[String(parts[last])], next < last {
                self = made(kind, next..<last)
            } else {
                return nil
            }
        } else if parts[0] == "average", last > 0 {
            self = made(.average, 1..<parts.count)
        } else if last > 0, let kind = Self.slots[String(parts[last])] {
            self = made(kind, 0..<last)
        } else if last > 0, parts[last] == "param" || parts[last] == "buffer" {
            self = made(.parameter, 0..<last)
        } else {
            self = made(.parameter, 0..<parts.count)
        }
    }

    private init(_ kind: Kind, _ head: String, _ parameter: String, _ tail: String) {
        self.kind = kind
        self.head = head
        self.parameter = parameter
        self.tail = tail
    }

    /// The name of the same part of the parameter's counterpart in another layer; `nil` outside of layers.
    func name(inLayer layer: Int) -> String? {
        LayerName(parameter).map { head + $0.name(ofLayer: layer) + tail }
    }
}

/// A parameter with everything that a training state keeps of it.
struct ParameterState {
    /// The name that tells it from others: the parameter's own, where the state has it.
    let name: String
    /// Where it is among the layers, if in one.
    let layer: LayerName?
    var parts: [(part: StatePart, tensor: TensorDescription)] = []

    /// The parts of some kind.
    func parts(_ kind: StatePart.Kind) -> [(part: StatePart, tensor: TensorDescription)] {
        parts.filter { $0.part.kind == kind }
    }
}

/// The tensors of a training state, by the parameters that they belong to.
struct ParameterStates {
    /// In the order of their first tensors.
    private(set) var all: [ParameterState] = []
    private var positions: [ExactString: Int] = [:]
    /// What an optimizer names as it is without the group that the model's own tensors lie in, `model` for example.
    private var ungrouped: [ExactString: String] = [:]
    /// Tensors of an optimizer whose names do not tell the parameter: numbered ones.
    private(set) var unnamed: [String] = []

    init(_ tensors: [TensorDescription]) {
        var found: [(part: StatePart, tensor: TensorDescription)] = []
        var ambiguous: Set<ExactString> = []
        for tensor in tensors {
            guard let part = StatePart(tensor.name) else {
                unnamed.append(tensor.name)
                continue
            }
            // `optimizer.state.0.exp_avg` is of the parameter that comes first, and no name says which that is.
            if part.kind.isOptimizerState, part.parameter.allSatisfy(\.isNumber) {
                unnamed.append(tensor.name)
                continue
            }
            found.append((part, tensor))
            if part.kind == .parameter, let dot = part.parameter.firstIndex(of: ".") {
                let short = ExactString(String(part.parameter[part.parameter.index(after: dot)...]))
                if ungrouped.updateValue(part.parameter, forKey: short) != nil { ambiguous.insert(short) }
            }
        }
        for name in ambiguous { ungrouped[name] = nil }
        let parameters = Set(found.filter { $0.part.kind == .parameter }.map { ExactString($0.part.parameter) })
        for one in found {
            let name = key(of: one.part, among: parameters)
            if positions[ExactString(name)] == nil {
                positions[ExactString(name)] = all.count
                all.append(ParameterState(name: name, layer: LayerName(name)))
            }
            if let position = positions[ExactString(name)] { all[position].parts.append(one) }
        }
    }

    /// The parameter that a part is of, under the name that the model has for it.
    private func key(of part: StatePart, among parameters: Set<ExactString>) -> String {
        if parameters.contains(ExactString(part.parameter)) { return part.parameter }
        if let whole = ungrouped[ExactString(part.parameter)] { return whole }
        for prefix in ["module.", "model."] where part.parameter.hasPrefix(prefix) {
            let rest = String(part.parameter.dropFirst(prefix.count))
            if parameters.contains(ExactString(rest)) { return rest }
        }
        return part.parameter
    }

    /// The parameter that a part names, as its optimizer does.
    func named(_ part: StatePart) -> ParameterState? {
        let whole = ungrouped[ExactString(part.parameter)] ?? part.parameter
        return (positions[ExactString(part.parameter)] ?? positions[ExactString(whole)]).map { all[$0] }
    }
}
