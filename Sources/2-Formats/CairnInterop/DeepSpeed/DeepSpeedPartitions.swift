import CairnBase
import CairnCheckpoint
import CairnTensor

/// The partitions of an optimizer's state that the data ranks of one model rank hold: ZeRO 1 to 3, and the optimizer
/// of bfloat16 weights.
struct DeepSpeedPartitions {
    let ranks: [DeepSpeedState]
    private let source: String
    /// Whether every parameter is sharded on its own: ZeRO 3.
    private let isThird: Bool
    private let states: [String]
    private(set) var skippedEntries: [String] = []

    private static let root: StateKey = "optimizer_state_dict"

    /// - Throws: ``CairnError/Code/incomplete`` when a rank's file is missing.
    init(_ ranks: [DeepSpeedState], modelRank: Int, source: String) throws(CairnError) {
        self.ranks = ranks
        self.source = source
        guard let first = ranks.first else {
            throw CairnError(.incomplete, "there are no partitions", .init(file: source, rank: modelRank))
        }
        isThird = first.tensor(Self.root, "fp32_flat_groups", 0) != nil
        // The state names the number of ranks that wrote it: a lost last file would else look like padding.
        let counts = first.integers(Self.root, "partition_count")
        let count = first.integer(Self.root, "partition_count") ?? counts.max()
        if let count, count != ranks.count {
            throw CairnError(
                .incomplete, "files of ranks are missing",
                .init(file: source, expected: "\(count) ranks", found: "\(ranks.count)"))
        }
        guard isThird || first.tensor(Self.root, "single_partition_of_fp32_groups", 0) != nil else {
            throw CairnError(
                .unsupported, "this way of keeping an optimizer's state is not read",
                .init(
                    file: first.file, expected: "single_partition_of_fp32_groups or fp32_flat_groups",
                    advice: "states that were swapped to a disk or written before 0.3.17 are not in the file"))
        }
        var names: Set<String> = []
        for tensor in first.contents.tensors {
            if let (_, state) = Self.stateKey(tensor.path), tensor.content.shape.dimensionCount == 1 {
                names.insert(state)
            }
        }
        states = names.sorted { ExactString($0) < ExactString($1) }
    }

    /// The group and the name of a tensor that is an optimizer's state.
    private static func stateKey(_ path: [StateKey]) -> (group: Int, state: String)? {
        guard path.first == root else { return nil }
        switch path.count {
        case 5 where (path[1] == "base_optimizer_state" || path[1] == root) && path[2] == "state":
            guard case .index(let group) = path[3] else { return nil }
            return (group, path[4].text)
        // What was saved to be resharded over other numbers of ranks.
        case 4 where path[1] == "base_optimizer_state":
            guard case .index(let group) = path[2] else { return nil }
            return (group, path[3].text)
        default: return nil
        }
    }

    /// The path of what the optimizer itself has, as its groups.
    var optimizerPath: [StateKey] { [Self.root, isThird ? Self.root : "base_optimizer_state"] }

    private func part(_ rank: DeepSpeedState, _ state: String, _ group: Int) -> (any TensorView)? {
        let content: (any TensorView)?
        if state == "fp32" {
            content = rank.tensor(
                Self.root, isThird ? "fp32_flat_groups" : "single_partition_of_fp32_groups", .index(group))
        } else {
            content =
                rank.tensor(at: optimizerPath + ["state", .index(group), StateKey(state)])
                ?? rank.tensor(Self.root, "base_optimizer_state", .index(group), StateKey(state))
        }
        guard let content, content.shape.dimensionCount == 1 else { return nil }
        return content
    }

    /// How many ranks shard a group; experts are sharded over fewer.
    private func divisor(_ group: Int) -> Int {
        guard let first = ranks.first else { return 1 }
        return first.integer(Self.root, "partition_count", .index(group))
            ?? first.integer(Self.root, "ds_zero_partition_groups", .index(group), "partition_count") ?? ranks.count
    }

    /// The groups of parameters that the fragments of the ranks tell, where no list of shapes does.
    ///
    /// - Parameter shapes: The shapes of the parameters by name.
    func groups(shapes: [ExactString: Shape]) -> [[DeepSpeedParameter]] {
        var groups: [[DeepSpeedParameter]] = []
        var seen: Set<ExactString> = []
        for rank in ranks {
            for (path, _) in rank.contents.leaves
            where path.count == 5 && path[1] == "param_slice_mappings" && path[4] == "numel" {
                guard case .index(let group) = path[2], group <= groups.count, case .name(let name) = path[3],
                    let shape = shapes[ExactString(name)]
                else { continue }
                if group == groups.count { groups.append([]) }
                if seen.insert(ExactString(name)).inserted { groups[group].append(.init(name: name, shape: shape)) }
            }
        }
        return groups
    }

    /// Adds the states of the parameters.
    ///
    /// - Throws: ``CairnError/Code/incomplete`` when the partitions are too short for the parameters.
    mutating func add(to rank: inout DeepSpeedRank) throws(CairnError) {
        for state in ["fp32"] + states {
            if isThird {
                try addThird(state, to: &rank)
            } else {
                for (index, group) in rank.groups.enumerated() { try addFlat(state, index, group, to: &rank) }
            }
        }
    }

    private mutating func omitExperts(_ state: String, _ group: [DeepSpeedParameter]) {
        guard state == "fp32", let first = group.first else { return }
        skippedEntries.append(
            "the optimizer's state of \(group.count) parameters of experts is left out: \(first.name)"
                + (group.count > 1 ? ", …" : ""))
    }

    /// ZeRO 1 and 2: the parameters of a group follow each other in one buffer, which is sharded over the ranks.
    private mutating func addFlat(
        _ state: String, _ index: Int, _ group: [DeepSpeedParameter], to rank: inout DeepSpeedRank
    ) throws(CairnError) {
        guard divisor(index) == ranks.count else { return omitExperts(state, group) }
        if let fragments = try fragments(index, group) {
            for parameter in group {
                var slices: [ElementRuns?] = []
                for (number, fragment) in fragments[ExactString(parameter.name)] ?? [] {
                    var buffer = ElementRuns()
                    guard let content = part(ranks[number], state, index) else { continue }
                    buffer.append(content)
                    slices.append(buffer.slice(fragment.start, fragment.count))
                }
                if slices.isEmpty, state != "fp32" { continue }
                try add(slices, parameter, state, to: &rank)
            }
            return
        }
        var buffer = ElementRuns()
        for rank in ranks {
            if let content = part(rank, state, index) { buffer.append(content) }
        }
        // A state that the optimizer does not have yet.
        if buffer.count == 0, state != "fp32" { return }
        var start = 0
        for (position, parameter) in group.enumerated() {
            let count = parameter.shape.elementCount
            try add([buffer.slice(start, count)], parameter, state, to: &rank)
            let padding =
                ranks.first?.integer(
                    Self.root, "param_alignment_paddings", .index(index), .index(position)) ?? 0
            guard let next = start.adding(checked: count)?.adding(checked: max(0, padding)) else {
                throw CairnError(.malformed, "the paddings are out of range", .init(file: source))
            }
            start = next
        }
    }

    /// The places of a group's parameters in the ranks' partitions, as newer versions write them down; `nil` where they
    /// are not known for all of them.
    private func fragments(
        _ group: Int, _ parameters: [DeepSpeedParameter]
    ) throws(CairnError) -> [ExactString: [(rank: Int, fragment: (start: Int, count: Int))]]? {
        var found: [ExactString: [(rank: Int, fragment: (start: Int, count: Int))]] = [:]
        for (number, rank) in ranks.enumerated() {
            for parameter in parameters {
                let path: [StateKey] = [
                    Self.root, "param_slice_mappings", .index(group), StateKey(parameter.name),
                ]
                guard let count = rank.integer(at: path + ["numel"]), let start = rank.integer(at: path + ["start"])
                else { continue }
                found[ExactString(parameter.name), default: []].append((number, (start, count)))
            }
        }
        for parameter in parameters {
            let sum = (found[ExactString(parameter.name)] ?? []).reduce(Int?.some(0)) { sum, part in
                part.fragment.count >= 0 ? sum?.adding(checked: part.fragment.count) : nil
            }
            guard sum == parameter.shape.elementCount else { return nil }
        }
        return found
    }

    /// ZeRO 3: every rank has an equal share of every parameter, the last ones padded.
    private mutating func addThird(_ state: String, to rank: inout DeepSpeedRank) throws(CairnError) {
        let buffers = ranks.map { groupBuffers(state, $0) }
        guard let first = buffers.first, state == "fp32" || buffers.contains(where: { $0.contains { $0.count > 0 } })
        else { return }
        // Buffers follow the groups of parameters; where they are cut otherwise, they are one.
        let isByGroup = first.count == rank.groups.count
        let joined = isByGroup ? [] : buffers.map { ElementRuns(joining: $0) }
        var start = 0
        for (index, group) in rank.groups.enumerated() {
            if isByGroup {
                start = 0
                guard divisor(index) == ranks.count else {
                    omitExperts(state, group)
                    continue
                }
                if state != "fp32", buffers.allSatisfy({ index >= $0.count || $0[index].count == 0 }) { continue }
            }
            for parameter in group {
                let count = parameter.shape.elementCount
                let share = count.dividedRoundingUp(by: ranks.count)
                let slices = buffers.enumerated().map { number, buffers -> ElementRuns? in
                    let own = max(0, min(share, count - number * share))
                    guard isByGroup else { return joined[number].slice(start, own) }
                    return index < buffers.count ? buffers[index].slice(start, own) : nil
                }
                try add(slices, parameter, state, to: &rank)
                start += share
            }
        }
    }

    private func groupBuffers(_ state: String, _ rank: DeepSpeedState) -> [ElementRuns] {
        var buffers: [ElementRuns] = []
        while part(rank, "fp32", buffers.count) != nil {
            var buffer = ElementRuns()
            if let content = part(rank, state, buffers.count) { buffer.append(content) }
            buffers.append(buffer)
        }
        return buffers
    }

    private func add(
        _ slices: [ElementRuns?], _ parameter: DeepSpeedParameter, _ state: String, to rank: inout DeepSpeedRank
    ) throws(CairnError) {
        var whole = ElementRuns()
        for slice in slices {
            guard let slice else {
                throw CairnError(
                    .incomplete, "the partitions are too short for a parameter",
                    .init(file: source, tensor: "\(parameter.name).\(state)"))
            }
            for run in slice.runs { whole.append(run) }
        }
        do throws(CairnError) {
            rank.add(try whole.tensor(parameter.shape), parameter.name, state)
        } catch {
            throw error.adding(.init(file: source, tensor: "\(parameter.name).\(state)"))
        }
    }
}
