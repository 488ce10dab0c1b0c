public import CairnBase
import CairnCheckpoint
import CairnTensor

/// A low-rank adapter (LoRA, Hu et al., ICLR 2022) as PEFT saves it: pairs of small matrices, and what their products are
/// multiplied by.
public struct LowRankAdapter: Sendable {
    /// What `adapter_config.json` says, as far as a merge needs it.
    public struct Configuration: Sendable, Hashable {
        /// `lora_alpha`
        public var alpha: Double
        /// `alpha_pattern`: other values for modules whose names end with these.
        public var alphaOfModules: [String: Double]
        /// `use_rslora`: the scale is α/√r instead of α/r.
        public var isRankStabilized: Bool
        /// `fan_in_fan_out`: weights are stored as `[inputs, outputs]`.
        public var isTransposed: Bool

        public init(
            alpha: Double, alphaOfModules: [String: Double] = [:], isRankStabilized: Bool = false,
            isTransposed: Bool = false
        ) {
            self.alpha = alpha
            self.alphaOfModules = alphaOfModules
            self.isRankStabilized = isRankStabilized
            self.isTransposed = isTransposed
        }

        /// Reads `adapter_config.json`.
        ///
        /// - Throws: ``CairnError/Code/malformed`` for what is none, ``CairnError/Code/unsupported`` for adapters that are
        ///   more than products of two matrices.
        public init(json: String, file: String? = nil) throws(CairnError) {
            do {
                try self.init(reading: JSONValue(parsing: json).asObject())
            } catch let error as CairnError {
                throw error.adding(.init(file: file))
            } catch {
                throw CairnError(.malformed, "it is no configuration of an adapter", .init(file: file), cause: error)
            }
        }

        private init(reading object: JSONObject) throws {
            func isSet(_ key: String) throws -> Bool {
                switch object[key] {
                case nil, .null: false
                case .bool(let value)?: value
                case .string(let text)?: text != "none"
                case .array(let list)?: !list.isEmpty
                case .object(let inner)?: !inner.members.isEmpty
                default: true
                }
            }
            if let kind = object["peft_type"], kind != .string("LORA") {
                throw CairnError(.unsupported, "only LoRA adapters are merged", .init(found: "\(kind)"))
            }
            for key in ["use_dora", "bias", "modules_to_save", "lora_bias", "megatron_config", "alora_invocation_tokens"]
            where try isSet(key) {
                throw CairnError(
                    .unsupported, "the adapter is more than products of two matrices", .init(found: key))
            }
            func number(_ value: JSONValue) throws -> Double {
                switch value {
                case .integer(let number): return Double(number)
                case .double(let number): return number
                default: throw CairnError(.malformed, "a scale is no number")
                }
            }
            guard let alpha = object["lora_alpha"] else {
                throw CairnError(.malformed, "the adapter does not say its lora_alpha")
            }
            var modules: [String: Double] = [:]
            if case .object(let patterns)? = object["alpha_pattern"] {
                for member in patterns.members {
                    guard member.key.allSatisfy({ $0.isLetter || $0.isNumber || "._-".contains($0) }) else {
                        throw CairnError(
                            .unsupported, "only plain names are read in alpha_pattern", .init(found: member.key))
                    }
                    modules[member.key] = try number(member.value)
                }
            }
            self.init(
                alpha: try number(alpha), alphaOfModules: modules, isRankStabilized: try isSet("use_rslora"),
                isTransposed: try isSet("fan_in_fan_out"))
        }

        /// What a module's product is multiplied by.
        func scale(module: String, rank: Int) -> Double {
            let fitting = alphaOfModules.keys.filter { module == $0 || module.hasSuffix("." + $0) }
            let alpha = fitting.max { ($0.count, $0) < ($1.count, $1) }.flatMap { alphaOfModules[$0] } ?? alpha
            return alpha / (isRankStabilized ? Double(rank).squareRoot() : Double(rank))
        }
    }

    /// The matrices.
    public var input: MergeInput
    public var configuration: Configuration

    public init(_ input: MergeInput, configuration: Configuration) {
        self.input = input
        self.configuration = configuration
    }

    /// The pairs of matrices by the weight that they belong to.
    ///
    /// - Throws: ``CairnError/Code/unsupported`` for tensors that are no such matrices, ``CairnError/Code/incomplete`` for a
    ///   matrix without its other.
    func updates(input position: Int) throws(CairnError) -> [(weight: String, update: LowRankUpdate)] {
        let reader = input.reader
        var updates: [(weight: String, update: LowRankUpdate)] = []
        for tensor in reader.tensors {
            guard let (module, kind) = Self.parts(of: tensor.name) else {
                throw CairnError(
                    .unsupported, "a tensor of the adapter is no matrix of an update",
                    .init(file: reader.source, tensor: tensor.name))
            }
            guard kind.isDown else {
                guard reader.tensors.position(of: kind.other(of: tensor.name)) != nil else {
                    throw Self.lonely(reader, tensor.name, kind)
                }
                continue
            }
            let other = kind.other(of: tensor.name)
            guard reader.tensors.position(of: other) != nil else { throw Self.lonely(reader, tensor.name, kind) }
            guard tensor.shape.dimensionCount == 2, tensor.shape[0] > 0 else {
                throw CairnError(
                    .unsupported, "only updates of matrices are merged",
                    .init(file: reader.source, tensor: tensor.name, found: "\(tensor.shape)"))
            }
            updates.append(
                (
                    module + ".weight",
                    LowRankUpdate(
                        down: .init(input: position, name: tensor.name), up: .init(input: position, name: other),
                        scale: configuration.scale(module: module, rank: tensor.shape[0]),
                        isTransposed: configuration.isTransposed || kind.isEmbedding)
                ))
        }
        return updates
    }

    private static func lonely(_ reader: any CheckpointReader, _ name: String, _ kind: Kind) -> CairnError {
        CairnError(
            .incomplete, "a matrix of the adapter lacks its other",
            .init(file: reader.source, tensor: name, expected: kind.other(of: name)))
    }

    /// Which of the two matrices it is.
    private struct Kind {
        let part: String, counterpart: String
        let isDown: Bool, isEmbedding: Bool

        func other(of name: String) -> String {
            guard let range = name.range(ofLast: part) else { return name }
            return name.replacingCharacters(in: range, by: counterpart)
        }
    }

    private static let kinds = [
        Kind(part: ".lora_A", counterpart: ".lora_B", isDown: true, isEmbedding: false),
        Kind(part: ".lora_B", counterpart: ".lora_A", isDown: false, isEmbedding: false),
        Kind(part: ".lora_embedding_A", counterpart: ".lora_embedding_B", isDown: true, isEmbedding: true),
        Kind(part: ".lora_embedding_B", counterpart: ".lora_embedding_A", isDown: false, isEmbedding: true),
    ]

    /// The module without PEFT's prefix, and which matrix it is; `nil` for other tensors.
    private static func parts(of name: String) -> (module: String, kind: Kind)? {
        for kind in kinds {
            guard let range = name.range(ofLast: kind.part) else { continue }
            let rest = name[range.upperBound...]
            guard rest.isEmpty || rest == ".weight" || rest == ".default" || rest == ".default.weight" else { continue }
            var module = String(name[..<range.lowerBound])
            if module.hasPrefix("base_model.model.") { module.removeFirst("base_model.model.".count) }
            return (module, kind)
        }
        return nil
    }
}

extension String {
    /// Where a text occurs for the last time.
    fileprivate func range(ofLast text: String) -> Range<Index>? {
        var end = endIndex
        while end > startIndex {
            if self[..<end].hasSuffix(text) { return index(end, offsetBy: -text.count)..<end }
            end = index(before: end)
        }
        return nil
    }

    fileprivate func replacingCharacters(in range: Range<Index>, by text: String) -> String {
        self[..<range.lowerBound] + text + self[range.upperBound...]
    }
}

extension MergedCheckpoint {
    /// A model with the updates of adapters added.
    ///
    /// - Throws: ``CairnError/Code/notFound`` for an adapter of weights that the model lacks, ``CairnError/Code/mismatch`` for
    ///   matrices that do not fit.
    public init(
        _ base: MergeInput, adapters: [LowRankAdapter], options: MergeOptions = MergeOptions()
    ) throws(CairnError) {
        var updates: [ExactString: [LowRankUpdate]] = [:]
        for (index, adapter) in adapters.enumerated() {
            for (weight, update) in try adapter.updates(input: index + 1) {
                guard let position = base.reader.tensors.position(of: weight) else {
                    throw CairnError(
                        .notFound, "the adapter is for a weight that the model lacks",
                        .init(file: adapter.input.reader.source, tensor: weight))
                }
                // A tied weight is stored under its other name.
                let stored = base.reader.tensors[position].tiedTo ?? weight
                updates[ExactString(stored), default: []].append(update)
            }
        }
        let recipes = base.reader.tensors.map { tensor in
            let own = updates[ExactString(tensor.name)] ?? []
            return TensorRecipe(
                name: tensor.name, operands: [.init(input: 0, name: tensor.name)],
                method: own.isEmpty ? .passthrough() : .lowRankUpdates, updates: own, tiedTo: tensor.tiedTo)
        }
        let inputs = [base] + adapters.map(\.input)
        try self.init(
            inputs, recipes: recipes, lineage: Lineage(operation: "adapter", parents: inputs.map(\.parent)),
            options: options)
    }
}
