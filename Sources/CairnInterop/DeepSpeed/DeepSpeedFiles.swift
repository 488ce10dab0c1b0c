import CairnBase

/// The files of a DeepSpeed checkpoint, told apart by their names.
struct DeepSpeedFiles {
    /// `mp_rank_00_model_states.pt` by model rank.
    var models: [Int: String] = [:]
    /// `zero_pp_rank_0_mp_rank_00_model_states.pt` by model rank and data rank: ZeRO 3.
    var modelParts: [Int: [Int: String]] = [:]
    /// `[bf16_]zero_pp_rank_0_mp_rank_00_optim_states.pt` by model rank and data rank.
    var optimizers: [Int: [Int: String]] = [:]
    /// `layer_00-model_states.pt`: pipeline parallelism, a file for each layer and tensor rank.
    var layers: [(layer: Int, tensorRank: Int?, name: String)] = []
    /// `layer_0_expert_3_mp_rank_00_model_states.pt`: the weights of one expert.
    var experts: [(modelRank: Int, name: String)] = []
    /// The states (`fp32`, `exp_avg`, …) of each parameter of a universal checkpoint, in `zero/<name>/<state>.pt`.
    var universal: [(parameter: String, states: [String])] = []
    /// Whether there is a universal checkpoint's `zero/optimizer_state.pt`.
    var hasUniversalOptimizer = false
    /// Files of states that are not known.
    var others: [String] = []

    static let universalFolder = "zero/"
    static let universalOptimizer = "zero/optimizer_state.pt"
    private static let universalSuffix = ".pt"
    /// What precedes the names of ZeRO's files, by the optimizer's precision.
    private static let precisions = ["", "bf16_", "fp16_"]

    /// - Parameter names: The keys of the files below the checkpoint's directory, sorted.
    init(_ names: [String]) {
        for name in names {
            if name.hasPrefix(Self.universalFolder), name.hasSuffix(Self.universalSuffix) {
                addUniversal(name)
            } else if !name.contains("/"), name.hasSuffix("states.pt"), !add(name) {
                others.append(name)
            }
        }
        layers.sort { ($0.layer, $0.tensorRank ?? 0) < ($1.layer, $1.tensorRank ?? 0) }
    }

    /// The number of tensor ranks that the names of layers tell; `nil` without layers.
    var tensorDegree: Int? { layers.isEmpty ? nil : Set(layers.map { $0.tensorRank ?? 0 }).count }

    private mutating func addUniversal(_ name: String) {
        if name == Self.universalOptimizer {
            hasUniversalOptimizer = true
            return
        }
        let path = name.dropFirst(Self.universalFolder.count).dropLast(Self.universalSuffix.count)
        guard let slash = path.lastIndex(of: "/") else { return others.append(name) }
        let parameter = String(path[..<slash]), state = String(path[path.index(after: slash)...])
        if let last = universal.last, last.parameter == parameter {
            universal[universal.count - 1].states.append(state)
        } else {
            universal.append((parameter, [state]))
        }
    }

    private mutating func add(_ name: String) -> Bool {
        if let numbers = Self.numbers(in: name, "mp_rank_#_model_states.pt") {
            models[numbers[0]] = name
        } else if let numbers = Self.numbers(in: name, "zero_pp_rank_#_mp_rank_#_model_states.pt") {
            modelParts[numbers[1], default: [:]][numbers[0]] = name
        } else if let numbers = Self.numbers(in: name, "layer_#-model_states.pt") {
            layers.append((numbers[0], nil, name))
        } else if let numbers = Self.numbers(in: name, "layer_#-model_#-model_states.pt") {
            layers.append((numbers[0], numbers[1], name))
        } else if let numbers = Self.numbers(in: name, "layer_#_expert_#_mp_rank_#_model_states.pt") {
            experts.append((numbers[2], name))
        } else if let numbers = Self.numbers(in: name, "expert_#_mp_rank_#_model_states.pt") {
            experts.append((numbers[1], name))
        } else {
            for precision in Self.precisions {
                // Until version 0.3.11 there was no underscore behind the number.
                for end in ["_optim_states.pt", "optim_states.pt"] {
                    let pattern = precision + "zero_pp_rank_#_mp_rank_#" + end
                    guard let numbers = Self.numbers(in: name, pattern) else { continue }
                    optimizers[numbers[1], default: [:]][numbers[0]] = name
                    return true
                }
            }
            return false
        }
        return true
    }

    /// The numbers of a name that is else like the pattern, in which `#` stands for one.
    static func numbers(in name: String, _ pattern: String) -> [Int]? {
        var rest = name[...]
        var numbers: [Int] = []
        for (index, text) in pattern.split(separator: "#", omittingEmptySubsequences: false).enumerated() {
            if index > 0 {
                let digits = rest.prefix { $0.isASCII && $0.isWholeNumber }
                guard let number = Int(digits) else { return nil }
                numbers.append(number)
                rest = rest[digits.endIndex...]
            }
            guard rest.hasPrefix(text) else { return nil }
            rest = rest.dropFirst(text.count)
        }
        return rest.isEmpty ? numbers : nil
    }
}
