public import CairnBase
public import CairnCheckpoint

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Linear combinations of checkpoints, as points of a space that can be searched.
public struct CoefficientSpace: Sendable {
    /// Which tensors have coefficients in common.
    public enum Grouping: Sendable, Hashable {
        /// All.
        case whole
        /// Those of one layer, by the first number in their names, and those outside the layers.
        case layers
        /// Those whose names fit one pattern, the first that does; all others are a group more.
        case patterns([GlobPattern])
    }

    /// What the coefficients of a tensor have to be.
    public enum Constraint: Sendable, Hashable {
        /// Anything.
        case none
        /// They add up to 1: the last one follows from the others and is not a coordinate.
        case sumsToOne
        /// They are positive and add up to 1: coordinates are their logarithms, up to a number that all have in common.
        case convex
    }

    private let inputs: [MergeInput]
    private let constraint: Constraint
    private let options: MergeOptions
    private let groupOfTensor: [ExactString: Int]
    /// The names of the groups.
    public let groups: [String]

    /// - Throws: ``CairnError/Code/mismatch`` with everything in which the inputs differ.
    public init(
        _ inputs: [MergeInput], grouping: Grouping = .whole, constraint: Constraint = .sumsToOne,
        options: MergeOptions = MergeOptions()
    ) throws(CairnError) {
        guard let first = inputs.first else {
            throw CairnError(.invalidArgument, "a merge needs at least one checkpoint")
        }
        try SchemaComparison(of: inputs, promotesTypes: options.promotesTypes).check()
        self.inputs = inputs
        self.constraint = constraint
        self.options = options
        var groups: [String] = []
        var groupIndices: [String: Int] = [:]
        var groupOfTensor: [ExactString: Int] = [:]
        for tensor in first.reader.tensors {
            let name = Self.group(of: tensor.tiedTo ?? tensor.name, grouping)
            let group = groupIndices[name] ?? groups.count
            if group == groups.count {
                groups.append(name)
                groupIndices[name] = group
            }
            groupOfTensor[ExactString(tensor.name)] = group
        }
        self.groups = groups
        self.groupOfTensor = groupOfTensor
    }

    private static func group(of name: String, _ grouping: Grouping) -> String {
        switch grouping {
        case .whole: "*"
        case .layers: LayerName(name).map { "\($0.prefix)\($0.layer)" } ?? "outside layers"
        case .patterns(let patterns): patterns.first { $0.matches(name) }?.text ?? "others"
        }
    }

    private var coordinatesPerGroup: Int { constraint == .sumsToOne ? inputs.count - 1 : inputs.count }

    /// How many numbers a point has.
    public var dimension: Int { groups.count * coordinatesPerGroup }

    /// The point of the plain average.
    public var uniformPoint: [Double] {
        [Double](repeating: constraint == .convex ? 0 : 1 / Double(inputs.count), count: dimension)
    }

    /// The point at which every group has these coefficients.
    ///
    /// Where they have to be positive, those below a thousandth count as that.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` for another number of coefficients than inputs.
    public func point(of coefficients: [Double]) throws(CairnError) -> [Double] {
        guard coefficients.count == inputs.count else {
            throw CairnError(
                .invalidArgument, "there are not as many coefficients as checkpoints",
                .init(expected: "\(inputs.count)", found: "\(coefficients.count)"))
        }
        let own = constraint == .convex ? coefficients.map { log(max($0, 1e-3)) } : coefficients
        return groups.flatMap { _ in own.prefix(coordinatesPerGroup) }
    }

    /// The coefficients of the inputs, for each group.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` for a point of another number of coordinates.
    public func coefficients(of point: [Double]) throws(CairnError) -> [[Double]] {
        guard point.count == dimension else {
            throw CairnError(
                .invalidArgument, "a point has another number of coordinates",
                .init(expected: "\(dimension)", found: "\(point.count)"))
        }
        return groups.indices.map { group in
            let own = Array(point[group * coordinatesPerGroup..<(group + 1) * coordinatesPerGroup])
            switch constraint {
            case .none: return own
            case .sumsToOne: return own + [1 - own.reduce(0, +)]
            case .convex:
                // The largest first, so that none is beyond what a number can be.
                let largest = own.max() ?? 0
                let parts = own.map { exp($0 - largest) }
                let sum = parts.reduce(0, +)
                return parts.map { $0 / sum }
            }
        }
    }

    /// The checkpoint of a point, computed as it is read.
    public func merged(_ point: [Double]) throws(CairnError) -> MergedCheckpoint {
        let coefficients = try coefficients(of: point)
        return try MergedCheckpoint(inputs, operation: "search", options: options) { name in
            .linear(weights: coefficients[groupOfTensor[ExactString(name)] ?? 0], normalizes: false)
        }
    }
}
