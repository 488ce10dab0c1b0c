import CairnBase
import CairnCheckpoint
import CairnTensor

/// What one model rank holds: the states of its parameters, gathered over the data ranks.
///
/// Without tensor parallelism these are whole parameters, of the rank's pipeline stage.
struct DeepSpeedRank: Sendable {
    /// Which state of which parameter.
    struct Key: Hashable, Sendable {
        /// The parameter's name.
        var parameter: ExactString
        /// `fp32`, `exp_avg`, `param`, `buffer`, …
        var state: String

        init(_ parameter: String, _ state: String) {
            self.parameter = ExactString(parameter)
            self.state = state
        }

        /// The tensor's name.
        var name: String { parameter.string + "." + state }
    }

    /// The parameters that the optimizer has, by its groups.
    var groups: [[DeepSpeedParameter]] = []
    /// Second names of parameters and the names that they are kept under.
    private(set) var shared: [(name: String, kept: String)] = []
    private(set) var entries: [Key: any TensorView] = [:]
    /// The keys of the entries, in the order in which they came.
    private(set) var keys: [Key] = []

    /// The shapes of the parameters that the optimizer has.
    var shapes: [ExactString: Shape] {
        Dictionary(groups.joined().map { (ExactString($0.name), $0.shape) }, uniquingKeysWith: { first, _ in first })
    }

    /// Adds second names unless they are there.
    mutating func addShared(_ names: [(name: String, kept: String)]) {
        var known = Set(shared.map { ExactString($0.name) })
        shared += names.filter { known.insert(ExactString($0.name)).inserted }
    }

    /// The weights under their second names: those that the optimizer has, and those that the model computes with.
    /// What the optimizer keeps beside them belongs to the parameter, however many names it has.
    func tied() -> [(name: String, content: any TensorView, tiedTo: String)] {
        let kept = Dictionary(shared.map { (ExactString($0.name), $0.kept) }, uniquingKeysWith: { first, _ in first })
        return shared.flatMap { second -> [(name: String, content: any TensorView, tiedTo: String)] in
            var target = second.kept
            // A name that stands for another one in turn; a circle of them stands for nothing.
            for _ in 0..<shared.count {
                guard let next = kept[ExactString(target)] else { break }
                target = next
            }
            return ["fp32", "param"].compactMap { state in
                let (own, original) = (Key(second.name, state), Key(target, state))
                guard entries[own] == nil, let content = entries[original] else { return nil }
                return (own.name, content, original.name)
            }
        }
    }

    /// Adds a state unless it is there.
    mutating func add(_ content: any TensorView, _ parameter: String, _ state: String) {
        let key = Key(parameter, state)
        guard entries[key] == nil else { return }
        entries[key] = content
        keys.append(key)
    }
}

/// Runs of elements of several tensors, one after the other: a flat buffer that was cut into partitions.
struct ElementRuns: Sendable {
    /// Consecutive elements of one tensor.
    struct Run: Sendable {
        /// One-dimensional.
        var content: any TensorView
        /// The first element in the content.
        var start: Int
        var count: Int
    }

    private(set) var runs: [Run] = []
    /// How many elements there are.
    private(set) var count = 0

    init() {}

    /// Buffers that follow each other.
    init(joining buffers: [ElementRuns]) {
        for run in buffers.lazy.flatMap(\.runs) { append(run) }
    }

    /// Appends all of a one-dimensional tensor.
    mutating func append(_ content: any TensorView) {
        append(Run(content: content, start: 0, count: content.shape.elementCount))
    }

    mutating func append(_ run: Run) {
        guard run.count > 0 else { return }
        runs.append(run)
        count += run.count
    }

    /// Part of the buffer; `nil` when it reaches beyond the end.
    func slice(_ start: Int, _ count: Int) -> ElementRuns? {
        guard start >= 0, count >= 0, let end = start.adding(checked: count), end <= self.count else { return nil }
        var result = ElementRuns()
        var offset = 0
        for run in runs {
            let from = max(start, offset), to = min(end, offset + run.count)
            if from < to {
                result.append(
                    Run(content: run.content, start: run.start + from - offset, count: to - from))
            }
            offset += run.count
        }
        return result
    }

    /// The elements as a tensor.
    ///
    /// - Throws: ``CairnError/Code/malformed`` when there are not as many elements as the shape has, of one type.
    func tensor(_ shape: Shape) throws(CairnError) -> any TensorView {
        guard count == shape.elementCount else {
            throw CairnError(
                .malformed, "a tensor's flat parts have another size than its shape",
                .init(expected: "\(shape.elementCount) elements", found: "\(count)"))
        }
        let scalarType = runs.first?.content.scalarType ?? .f32
        guard runs.allSatisfy({ $0.content.scalarType == scalarType }), !scalarType.isPacked else {
            throw CairnError(.malformed, "a tensor's flat parts differ in type")
        }
        var flat: [FlatMapping.Run] = []
        var end = 0
        for run in runs {
            flat.append(.init(end..<end + run.count, start: run.start))
            end += run.count
        }
        return MappedView(runs.map(\.content), FlatMapping(shape: shape, runs: flat), scalarType)
    }
}
