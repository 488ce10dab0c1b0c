import CairnBase
import CairnCheckpoint
import CairnTensor

/// The files of a universal checkpoint beside the states of the parameters: two forms of the model, and the optimizer's
/// options.
struct UniversalModelFiles {
    /// The number in the checkpoint's name.
    let step: Int
    /// What the format cannot carry over.
    private(set) var notes: [String] = []

    private let plan: UniversalPlan
    private let values: [NamedValue]
    private let defaults: [NamedValue]
    /// The parameters by the optimizer's groups.
    private let groups: [[String]]
    private let options: [Value]
    private let steps: [Value]
    private let copied: Set<ExactString>
    private let copies: [String]
    private let version: String

    /// What the values have that goes elsewhere.
    private static let moved: Set<String> = ["param_groups", "optimizer_steps", "shared_params"]
    /// What loaders ask for. DeepSpeed refuses stage 1 of before 0.3.17.
    private static let required: KeyValuePairs<String, Value> = [
        "data_sampler": .null, "dp_world_size": .integer(1), "ds_config": .dictionary([:]), "ds_version": .string("0.10.0"),
        "frozen_param_fragments": .null, "frozen_param_shapes": .null, "global_samples": .integer(0), "lr_scheduler": .null,
        "mp_world_size": .integer(1), "optimizer": .null, "random_ltd": .null, "skipped_steps": .integer(0),
    ]

    init(_ plan: UniversalPlan, _ values: [NamedValue], step: Int) throws(CairnError) {
        self.plan = plan
        func value(_ name: String) -> Value? { values.first { ExactString($0.name) == ExactString(name) }?.value }
        let own: Set<String> = ["module", "buffer_names", "param_shapes", UniversalNote.key.text]
        if let clash = values.first(where: { own.contains($0.name) }) {
            throw CairnError(
                .unsupported, "DeepSpeed's files have another thing under the name of this value",
                .init(found: clash.name, advice: "leave it out by --exclude"))
        }
        self.values = values.filter { !Self.moved.contains($0.name) }
        var number = step
        if case .integer(let steps)? = value("global_steps"), steps >= 0 { number = Int(steps) }
        self.step = number
        let names = Set(values.map(\.name))
        defaults =
            Self.required.filter { !names.contains($0.key) }.map { NamedValue(name: $0.key, value: $0.value) }
            + (names.contains("global_steps") ? [] : [NamedValue(name: "global_steps", value: .integer(Int64(number)))])
        if case .string(let text)? = value("ds_version") { version = text } else { version = "0.10.0" }

        var options: [Value] = []
        if case .list(let groups)? = value("param_groups") { options = groups }
        if case .list(let steps)? = value("optimizer_steps") { self.steps = steps } else { self.steps = [] }
        let all = plan.parameters.map(\.name)
        let groups = Self.groups(options)
        if Set(groups.joined().map { ExactString($0) }) == Set(all.map { ExactString($0) }), !groups.isEmpty {
            self.groups = groups
        } else {
            self.groups = [all]
        }
        if options.isEmpty {
            options = [.dictionary([:])]
            notes.append(
                "there are no param_groups, so that DeepSpeed will take the options of the job that loads this; only "
                    + "an optimizer with one group loads all of it")
        }
        self.options = options
        let weights = Set(
            plan.roles.compactMap { role -> ExactString? in
                guard case .weight(let name) = role.role else { return nil }
                return ExactString(name)
            })
        copies = all.filter { !weights.contains(ExactString($0)) }
        copied = Set(copies.map { ExactString($0) })
    }

    /// The names of the parameters in each group.
    private static func groups(_ options: [Value]) -> [[String]] {
        options.map { group in
            guard case .dictionary(let members) = group, case .list(let names)? = members["params"] else { return [] }
            return names.compactMap { if case .string(let name) = $0 { name } else { nil } }
        }
    }

    /// Whether a parameter's single-precision weight also stands for the weight in the model's file.
    func isCopied(_ parameter: String) -> Bool { copied.contains(ExactString(parameter)) }

    /// The types of the placeholders that stage 3 has for weights.
    var placeholderTypes: [ScalarType] {
        var types: [ScalarType] = []
        for weight in weights where !types.contains(weight.tensor.scalarType) { types.append(weight.tensor.scalarType) }
        return types
    }

    /// About how large the model's file becomes.
    var modelByteCount: Int { (weights + buffers).reduce(0) { $0 + $1.tensor.byteCount + 256 } }

    /// What the model's file has as weights, in the order in which they come.
    private var weights: [(name: String, tensor: TensorDescription)] {
        plan.roles.compactMap { tensor, role in
            switch role {
            case .weight(let name): return (name, tensor)
            case .state(let parameter, "fp32") where isCopied(parameter): return (parameter, tensor)
            default: return nil
            }
        }
    }

    private var buffers: [(name: String, tensor: TensorDescription)] {
        plan.roles.compactMap { tensor, role in
            if case .buffer(let name) = role { (name, tensor) } else { nil }
        }
    }

    // MARK: The model

    /// - Parameter isThird: Whether it is for stage 3, which has placeholders without elements for weights.
    func modelPickle(isThird: Bool) throws(CairnError) -> [UInt8] {
        var stored: [StatePickle.Stored] = []
        var members: [StateNode.Member] = []
        func add(_ name: String, _ description: TensorDescription, _ storage: Int) {
            stored.append(.init(description: description, storage: storage))
            members.append(.init(key: StateKey(name), node: .tensor(description.name)))
        }
        let types = placeholderTypes
        if isThird {
            for weight in weights {
                let number = types.firstIndex(of: weight.tensor.scalarType) ?? 0
                add(
                    weight.name,
                    TensorDescription(
                        name: weight.tensor.name, scalarType: weight.tensor.scalarType,
                        shape: try Shape(checking: [0])), number)
            }
            for (index, buffer) in buffers.enumerated() { add(buffer.name, buffer.tensor, types.count + index) }
        } else {
            // In the order in which the bytes come.
            let named = (weights + buffers).map { ($0.tensor.name, $0.name) }
            let names = Dictionary(named.map { (ExactString($0.0), $0.1) }, uniquingKeysWith: { first, _ in first })
            for (tensor, _) in plan.roles {
                if let name = names[ExactString(tensor.name)] { add(name, tensor, stored.count) }
            }
        }
        let nodes = Dictionary(members.map { ($0.key, $0.node) }, uniquingKeysWith: { first, _ in first })
        for tie in plan.shared {
            if let node = nodes[StateKey(tie.kept)] { members.append(.init(key: StateKey(tie.name), node: node)) }
        }
        let shapes = Dictionary(
            plan.parameters.map { (ExactString($0.name), $0.shape) }, uniquingKeysWith: { first, _ in first })
        let groups = self.groups.map { group in
            StateNode.dictionary(
                group.map { name in
                    let extents = shapes[ExactString(name)]?.extents ?? []
                    return .init(key: StateKey(name), node: .tuple(extents.map { .value(.integer(Int64($0))) }))
                })
        }
        let shared = plan.shared.map {
            StateNode.Member(key: StateKey($0.name), node: .value(.string($0.kept)))
        }
        let note: [StateNode.Member] = [
            .init(key: StateKey(UniversalNote.copies), node: .value(.list(copies.map { .string($0) }))),
            .init(key: StateKey(UniversalNote.defaults), node: .value(.list(defaults.map { .string($0.name) }))),
        ]
        let root: [StateNode.Member] = [
            .init(key: "module", node: .dictionary(members)),
            .init(key: "buffer_names", node: .value(.list(buffers.map { .string($0.name) }))),
            .init(key: "param_shapes", node: .list(groups)),
            .init(key: "shared_params", node: .dictionary(shared)),
        ]
        let more = (values + defaults).map { StateNode.Member(key: StateKey($0.name), node: .value($0.value)) }
        return try StatePickle.bytes(
            of: .dictionary(root + more + [.init(key: UniversalNote.key, node: .dictionary(note))]), tensors: stored)
    }

    // MARK: The optimizer

    /// The options of the optimizer's groups, where loaders of all stages look for them.
    func optimizerPickle() throws(CairnError) -> (pickle: [UInt8], storages: [[UInt8]]) {
        var storages: [[UInt8]] = []
        var stored: [StatePickle.Stored] = []
        var states: [StateNode.Member] = []
        // Stage 3 wants to see the steps of at least one group.
        for (group, step) in (steps.isEmpty ? [.integer(0)] : steps).enumerated() {
            let node: StateNode
            if case .double(let value) = step {
                let name = "step\(group)"
                stored.append(
                    .init(
                        description: TensorDescription(name: name, scalarType: .f32, shape: .scalar),
                        storage: storages.count))
                storages.append(Self.bytes(of: value))
                node = .tensor(name)
            } else {
                node = .value(step)
            }
            states.append(.init(key: .index(group), node: .dictionary([.init(key: "step", node: node)])))
        }
        let groups = StateNode.value(.list(options))
        let root: [StateNode.Member] = [
            .init(key: "ds_version", node: .value(.string(version))),
            .init(key: "param_groups", node: groups),
            .init(
                key: "optimizer_state_dict",
                node: .dictionary([
                    .init(key: "state", node: .dictionary(states)), .init(key: "param_groups", node: groups),
                ])),
            .init(
                key: UniversalNote.key,
                node: .value(.dictionary(["steps": .integer(Int64(steps.count))]))),
        ]
        return (try StatePickle.bytes(of: .dictionary(root), tensors: stored), storages)
    }

    /// The number of steps of a parameter and, where it is a tensor, its bytes; `nil` where nothing tells it.
    func step(of parameter: String) -> (StateNode, [[UInt8]])? {
        let name = ExactString(parameter)
        let group = groups.firstIndex { $0.contains { ExactString($0) == name } }
        let isCommon = steps.allSatisfy { $0 == steps.first }
        let step: Value
        if groups.count == steps.count, let group {
            step = steps[group]
        } else if isCommon, let first = steps.first {
            step = first
        } else {
            return nil
        }
        guard case .double(let value) = step else { return (.value(step), []) }
        return (.tensor("step"), [Self.bytes(of: value)])
    }

    /// A number as one single-precision element: how PyTorch's optimizers count steps.
    private static func bytes(of value: Double) -> [UInt8] {
        withUnsafeBytes(of: Float(value).bitPattern.littleEndian) { Array($0) }
    }
}
