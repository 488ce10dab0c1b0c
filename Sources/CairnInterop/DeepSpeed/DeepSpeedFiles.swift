import CairnBase

/// The files of a DeepSpeed checkpoint, told apart by their names.
struct DeepSpeedFiles {
    /// `mp_rank_00_model_states.pt` by model rank.
    var models: [Int: String] = [:]
    /// `zero_pp_rank_0_mp_rank_00_model_states.pt` by model rank and data rank: ZeRO 3.
    var modelParts: [Int: [Int: String]] = [:]
    /// `[bf16_]zero_pp_rank_0_mp_rank_00_optim_states.pt` by model rank and data rank.
    var optimizers: [Int: [Int: String]] = [:]
    /// `layer_00-model_states.pt` by layer: pipeline parallelism.
    var layers: [Int: String] = [:]
    /// The names of the parameters of a universal checkpoint, whose states are in `zero/<name>/`.
    var universal: [String] = []
    /// Files of experts or of tensor-parallel layers.
    var others: [String] = []

    /// - Parameter names: The keys of the files below the checkpoint's directory.
    init(_ names: [String]) {
        for name in names {
            if name.hasPrefix("zero/"), name.hasSuffix("/fp32.pt") {
                universal.append(String(name.dropFirst(5).dropLast(8)))
                continue
            }
            guard !name.contains("/"), name.hasSuffix("_states.pt") else { continue }
            let parts = name.replacing("bf16_zero", with: "zero").split(whereSeparator: { "_-.".contains($0) })
            switch parts.count {
            case 6 where parts.starts(with: ["mp", "rank"]) && parts[3] == "model":
                if let rank = Int(parts[2]) { models[rank] = name }
            case 10 where parts.starts(with: ["zero", "pp", "rank"]) && parts[4...5] == ["mp", "rank"]:
                guard let data = Int(parts[3]), let model = Int(parts[6]) else { continue }
                if parts[7] == "model" { modelParts[model, default: [:]][data] = name }
                if parts[7] == "optim" { optimizers[model, default: [:]][data] = name }
            case 5 where parts[0] == "layer" && parts[2] == "model":
                if let layer = Int(parts[1]) { layers[layer] = name }
            default: others.append(name)
            }
        }
    }
}
