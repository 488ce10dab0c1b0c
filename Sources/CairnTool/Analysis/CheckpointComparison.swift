import CairnBase
import CairnCheckpoint
import CairnTensor

/// What two checkpoints have in common and what not.
struct CheckpointComparison {
    /// A tensor that both have and that is not the same.
    struct DifferingTensor {
        var first: TensorDescription
        var second: TensorDescription
        /// The difference of the elements; `nil` when the shapes differ or the types cannot be compared.
        var elements: TensorDifference?
    }

    /// A value that both have and that is not the same.
    struct DifferingValue {
        var name: String
        var first: Value
        var second: Value
    }

    let tolerance: Double?
    let ignoresType: Bool
    private(set) var tensorsOnlyInFirst: [String] = []
    private(set) var tensorsOnlyInSecond: [String] = []
    private(set) var differingTensors: [DifferingTensor] = []
    private(set) var equalTensorCount = 0
    private(set) var valuesOnlyInFirst: [String] = []
    private(set) var valuesOnlyInSecond: [String] = []
    private(set) var differingValues: [DifferingValue] = []
    private(set) var equalValueCount = 0

    init(tolerance: Double?, ignoresType: Bool) {
        self.tolerance = tolerance
        self.ignoresType = ignoresType
    }

    /// Whether nothing differs.
    var isEqual: Bool {
        tensorsOnlyInFirst.isEmpty && tensorsOnlyInSecond.isEmpty && differingTensors.isEmpty
            && valuesOnlyInFirst.isEmpty && valuesOnlyInSecond.isEmpty && differingValues.isEmpty
    }

    /// Compares everything whose name is meant.
    ///
    /// - Parameter progress: called with the bytes just compared.
    /// - Throws: the readers' errors.
    mutating func compare(
        _ first: any CheckpointReader, _ second: any CheckpointReader, where isMeant: (String) -> Bool,
        progress: (Int) -> Void
    ) throws {
        var pairs: [(TensorDescription, TensorDescription)] = []
        Self.merge(
            first.tensors.filter { isMeant($0.name) }, second.tensors.filter { isMeant($0.name) }, name: \.name
        ) { left, right in
            switch (left, right) {
            case (let left?, let right?): pairs.append((left, right))
            case (let left?, nil): tensorsOnlyInFirst.append(left.name)
            case (nil, let right?): tensorsOnlyInSecond.append(right.name)
            case (nil, nil): break
            }
        }
        Self.merge(
            try Self.values(of: first, where: isMeant), try Self.values(of: second, where: isMeant), name: \.name
        ) { left, right in
            switch (left, right) {
            case (let left?, let right?) where left.value == right.value: equalValueCount += 1
            case (let left?, let right?):
                differingValues.append(.init(name: left.name, first: left.value, second: right.value))
            case (let left?, nil): valuesOnlyInFirst.append(left.name)
            case (nil, let right?): valuesOnlyInSecond.append(right.name)
            case (nil, nil): break
            }
        }
        let firstBlocks = TensorBlocks(first), secondBlocks = TensorBlocks(second)
        for (left, right) in pairs {
            try compare((left, firstBlocks), (right, secondBlocks), progress: progress)
        }
    }

    private mutating func compare(
        _ left: (tensor: TensorDescription, blocks: TensorBlocks),
        _ right: (tensor: TensorDescription, blocks: TensorBlocks), progress: (Int) -> Void
    ) throws {
        let sameType = left.tensor.scalarType == right.tensor.scalarType
        let numeric = DoubleBlock.canHold(left.tensor.scalarType) && DoubleBlock.canHold(right.tensor.scalarType)
        var elements: TensorDifference?
        if left.tensor.shape == right.tensor.shape, sameType || numeric {
            elements = try TensorDifference.gather(left, right, tolerance: tolerance, progress: progress)
        }
        // Types that cannot be compared differ, whatever is ignored.
        if elements?.differingCount == 0, sameType || ignoresType {
            equalTensorCount += 1
        } else {
            differingTensors.append(.init(first: left.tensor, second: right.tensor, elements: elements))
        }
    }

    /// The values that are meant; those of single ranks by the place of the rank and their name.
    private static func values(
        of reader: any CheckpointReader, where isMeant: (String) -> Bool
    ) throws -> [NamedValue] {
        var values = reader.values.filter { isMeant($0.name) }
        for of in try reader.rankValues() {
            values += of.values.filter { isMeant($0.name) }
                .map { NamedValue(name: "\(of.location): \($0.name)", value: $0.value) }
        }
        return values.sorted { ExactString($0.name) < ExactString($1.name) }
    }

    /// Walks two lists sorted by the bytes of the names side by side.
    private static func merge<Element>(
        _ first: [Element], _ second: [Element], name: (Element) -> String, _ visit: (Element?, Element?) -> Void
    ) {
        var left = first[...], right = second[...]
        while !(left.isEmpty && right.isEmpty) {
            let order: (ExactString, ExactString)? = left.first.flatMap { one in
                right.first.map { (ExactString(name(one)), ExactString(name($0))) }
            }
            if let order, order.0 == order.1 {
                visit(left.popFirst(), right.popFirst())
            } else if order.map({ $0.0 < $0.1 }) ?? !left.isEmpty {
                visit(left.popFirst(), nil)
            } else {
                visit(nil, right.popFirst())
            }
        }
    }
}
