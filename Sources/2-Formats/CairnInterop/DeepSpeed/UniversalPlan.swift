import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor

/// What of a checkpoint becomes which part of a universal checkpoint.
struct UniversalPlan {
    /// What becomes of a tensor.
    enum Role: Sendable, Equatable {
        /// A state of a parameter, in a file of its own.
        case state(parameter: String, name: String)
        /// The weight that the model computes with.
        case weight(String)
        case buffer(String)
        /// Nothing: the format has no place for it.
        case nothing
    }

    /// The role of every tensor that has bytes.
    private(set) var roles: [(tensor: TensorDescription, role: Role)] = []
    /// The parameters that are trained, in order, with their shapes.
    private(set) var parameters: [DeepSpeedParameter] = []
    /// Second names of parameters.
    private(set) var shared: [(name: String, kept: String)] = []
    /// What the format cannot carry over.
    private(set) var notes: [String] = []

    private static let sharedName = "shared_params"
    private static let master = ".fp32"
    private static let weight = ".param"
    private static let buffer = ".buffer"
    /// Where Cairn's own trainer, and others, keep the states of parameters: in front of their names.
    private static let optimizerPrefix = "optimizer."

    /// - Throws: ``CairnError/Code/unsupported`` when nothing is a parameter.
    init(_ tensors: [TensorDescription], _ values: [NamedValue], file: String) throws(CairnError) {
        try tensors.requireWrittenTies(in: file)
        let stored = tensors.filter { $0.tiedTo == nil }
        if stored.contains(where: { $0.name.hasSuffix(Self.master) }) {
            addSuffixed(stored)
        } else {
            addPrefixed(stored)
        }
        guard !parameters.isEmpty else {
            throw CairnError(
                .unsupported, "no tensor is a parameter's state as DeepSpeed names them",
                .init(
                    expected: "NAME.fp32, NAME.exp_avg, …", found: stored.first?.name,
                    advice: "rename them by --rename 'PATTERN=REPLACEMENT'"))
        }
        try checkNames(file)
        addTies(tensors, listed: Self.listed(values))
        let lost = roles.filter { $0.role == .nothing }.map(\.tensor.name)
        if !lost.isEmpty {
            notes.append(
                "\(lost.count == 1 ? "one tensor is" : "\(lost.count) tensors are") no state of a parameter and left "
                    + "out: \(NameList.text(lost))")
        }
    }

    /// Names are folders, and keys of a dictionary that tells apart only what is spelt otherwise for a reader.
    private func checkNames(_ file: String) throws(CairnError) {
        var spellings: [String: String] = [:]
        for parameter in parameters {
            do throws(CairnError) {
                try StorageKey.validate(DeepSpeedFiles.universalFolder + parameter.name)
            } catch {
                throw CairnError(
                    .unsupported, "DeepSpeed has a folder of a parameter's name, and no folder can have this one",
                    .init(file: file, tensor: parameter.name, advice: "rename it"), cause: error)
            }
            if let other = spellings.updateValue(parameter.name, forKey: parameter.name) {
                throw CairnError(
                    .unsupported, "two parameters' names are spelt alike, in other characters",
                    .init(file: file, tensor: parameter.name, found: other.debugDescription, advice: "rename one"))
            }
        }
    }

    /// Names as DeepSpeed's own: `<parameter>.<state>`.
    private mutating func addSuffixed(_ stored: [TensorDescription]) {
        var trained: Set<ExactString> = []
        for tensor in stored where tensor.name.hasSuffix(Self.master) {
            let name = String(tensor.name.dropLast(Self.master.count))
            trained.insert(ExactString(name))
            parameters.append(DeepSpeedParameter(name: name, shape: tensor.shape))
        }
        for tensor in stored {
            let name = tensor.name
            let role: Role
            if name.hasSuffix(Self.weight) {
                role = .weight(String(name.dropLast(Self.weight.count)))
            } else if let dot = name.lastIndex(of: "."), trained.contains(ExactString(String(name[..<dot]))) {
                role = .state(parameter: String(name[..<dot]), name: String(name[name.index(after: dot)...]))
            } else if name.hasSuffix(Self.buffer) {
                role = .buffer(String(name.dropLast(Self.buffer.count)))
            } else {
                role = .nothing
            }
            roles.append((tensor, role))
        }
    }

    /// Parameters under their names and `optimizer.<state>.<parameter>`.
    private mutating func addPrefixed(_ stored: [TensorDescription]) {
        let plain = stored.filter { !$0.name.hasPrefix(Self.optimizerPrefix) }
        var states: [ExactString: (parameter: String, state: String)] = [:]
        var trained: Set<ExactString> = []
        let names = Set(plain.map { ExactString($0.name) })
        for tensor in stored where tensor.name.hasPrefix(Self.optimizerPrefix) {
            let rest = tensor.name.dropFirst(Self.optimizerPrefix.count)
            guard let dot = rest.firstIndex(of: ".") else { continue }
            let parameter = String(rest[rest.index(after: dot)...])
            guard names.contains(ExactString(parameter)) else { continue }
            states[ExactString(tensor.name)] = (parameter, String(rest[..<dot]))
            trained.insert(ExactString(parameter))
        }
        guard !trained.isEmpty else {
            roles = stored.map { ($0, .nothing) }
            return
        }
        for tensor in plain where trained.contains(ExactString(tensor.name)) {
            parameters.append(DeepSpeedParameter(name: tensor.name, shape: tensor.shape))
        }
        for tensor in stored {
            let role: Role
            if let state = states[ExactString(tensor.name)] {
                role = .state(parameter: state.parameter, name: state.state)
            } else if trained.contains(ExactString(tensor.name)) {
                role = .state(parameter: tensor.name, name: "fp32")
            } else if tensor.name.hasPrefix(Self.optimizerPrefix) {
                role = .nothing
            } else {
                role = .weight(tensor.name)
            }
            roles.append((tensor, role))
        }
        notes.append(
            "names become DeepSpeed's: the parameter NAME is NAME.fp32, its states are NAME.exp_avg and so on")
    }

    /// A second name of a weight, or of the states of one, is one of the parameter.
    ///
    /// - Parameter listed: The second names that a checkpoint of DeepSpeed lists itself.
    private mutating func addTies(_ tensors: [TensorDescription], listed: [(name: String, kept: String)]) {
        let names = Set(parameters.map { ExactString($0.name) })
        var found = Set(listed.map { ExactString($0.name) })
        var lostTies: [String] = []
        for tensor in tensors {
            guard let kept = tensor.tiedTo else { continue }
            // The kept name tells what a name is made of: a parameter's own, one with a state behind it or in front of it.
            let forms = [{ $0 }, Self.withoutSuffix, Self.withoutPrefix]
            guard let form = forms.first(where: { names.contains(ExactString($0(kept))) }) else {
                lostTies.append(tensor.name)
                continue
            }
            let (name, target) = (form(tensor.name), form(kept))
            guard found.insert(ExactString(name)).inserted else { continue }
            shared.append((name, target))
        }
        if !lostTies.isEmpty {
            notes.append("second names of what is not a state of a parameter are left out: \(NameList.text(lostTies))")
        }
        if !shared.isEmpty {
            notes.append(
                "\(shared.count == 1 ? "one parameter is" : "\(shared.count) parameters are") another one under a "
                    + "second name, which is noted as shared_params: \(NameList.text(shared.map(\.name)))")
        }
        shared += listed
    }

    /// Second names that a checkpoint of DeepSpeed lists.
    private static func listed(_ values: [NamedValue]) -> [(name: String, kept: String)] {
        guard case .dictionary(let names)? = values.first(where: { $0.name == sharedName })?.value else { return [] }
        return names.sorted { ExactString($0.key) < ExactString($1.key) }.compactMap { name, kept in
            if case .string(let kept) = kept { (name, kept) } else { nil }
        }
    }

    /// `NAME` of `NAME.state`.
    private static func withoutSuffix(_ name: String) -> String {
        name.lastIndex(of: ".").map { String(name[..<$0]) } ?? name
    }

    /// `NAME` of `optimizer.state.NAME`.
    private static func withoutPrefix(_ name: String) -> String {
        guard name.hasPrefix(optimizerPrefix) else { return name }
        let rest = name.dropFirst(optimizerPrefix.count)
        return rest.firstIndex(of: ".").map { String(rest[rest.index(after: $0)...]) } ?? name
    }
}
