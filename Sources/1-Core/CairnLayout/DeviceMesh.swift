public import CairnBase

/// Named axes over the ranks of a job, row-major: the last axis varies fastest with the rank.
///
/// A mesh `dp=2, tp=4` has eight ranks; rank 5 stands at dp 1, tp 1.
public struct DeviceMesh: Sendable, Hashable {
    /// One way in which ranks are told apart.
    public struct Axis: Sendable, Hashable {
        /// ASCII letters, digits, `_`, `-` and `.`.
        public let name: String
        /// How many coordinates the axis has.
        public let size: Int

        /// Makes an axis; the mesh checks it.
        public init(_ name: String, _ size: Int) {
            self.name = name
            self.size = size
        }
    }

    /// The most ranks that a mesh may have.
    package static let maximumRankCount = 1 << 24

    /// The axes, outermost first.
    public let axes: [Axis]
    /// The product of the axes' sizes.
    public let rankCount: Int
    /// For each axis the distance in ranks between neighbours along it.
    package let strides: [Int]

    /// Makes a mesh, for example `["dp": 2, "tp": 4]`. Without axes it has one rank.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` on a name that is empty, repeated or not plain, on a size below 1
    ///   and on more than 16,777,216 ranks.
    public init(_ axes: KeyValuePairs<String, Int>) throws(CairnError) {
        try self.init(axes: axes.map { Axis($0.key, $0.value) })
    }

    /// Makes a mesh of axes, outermost first.
    ///
    /// - Throws: As ``init(_:)``.
    public init(axes: [Axis]) throws(CairnError) {
        var names = Set<String>()
        var count = 1
        for axis in axes {
            guard !axis.name.isEmpty, axis.name.utf8.allSatisfy(Self.isPlain) else {
                throw CairnError(
                    .invalidArgument, "a mesh axis has an unusable name",
                    .init(expected: "ASCII letters, digits, _ - .", found: "\"\(axis.name)\""))
            }
            guard names.insert(axis.name).inserted else {
                throw CairnError(.invalidArgument, "the mesh axis \"\(axis.name)\" appears twice")
            }
            guard axis.size >= 1 else {
                throw CairnError(
                    .invalidArgument, "the mesh axis \"\(axis.name)\" has no rank",
                    .init(expected: "a size of at least 1", found: "\(axis.size)"))
            }
            guard let product = count.multiplied(checked: axis.size), product <= Self.maximumRankCount else {
                throw CairnError(
                    .invalidArgument, "the mesh has too many ranks",
                    .init(
                        expected: "at most \(Self.maximumRankCount)",
                        found: axes.prefix(16).map { "\($0.name)=\($0.size)" }.joined(separator: ",")))
            }
            count = product
        }
        var strides = [Int](repeating: 1, count: axes.count)
        var stride = 1
        for index in axes.indices.reversed() {
            strides[index] = stride
            stride *= axes[index].size
        }
        self.axes = axes
        self.rankCount = count
        self.strides = strides
    }

    /// Reads a mesh as a person writes it: `dp=2,tp=4`. The empty text is the mesh of one rank.
    ///
    /// - Throws: As ``init(_:)``, and on a part that is not `name=size`.
    package init(parsing text: String) throws(CairnError) {
        var axes: [Axis] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: !text.contains(",")) {
            let sides = part.split(separator: "=", omittingEmptySubsequences: false)
            guard sides.count == 2, let size = Int(Self.trimmed(sides[1])) else {
                throw CairnError(
                    .invalidArgument, "a mesh is written as axis=size, separated by commas",
                    .init(found: "\"\(part)\"", advice: "write for example dp=2,tp=4"))
            }
            axes.append(Axis(String(Self.trimmed(sides[0])), size))
        }
        try self.init(axes: axes)
    }

    /// The coordinate of a rank along each axis. The rank must lie in the mesh.
    public func coordinates(ofRank rank: Int) -> [Int] {
        precondition(rank >= 0 && rank < rankCount, "rank \(rank) lies outside of a mesh of \(rankCount) ranks")
        return axes.indices.map { rank / strides[$0] % axes[$0].size }
    }

    /// The rank at a coordinate along each axis. The coordinates must lie in the mesh.
    public func rank(at coordinates: [Int]) -> Int {
        precondition(coordinates.count == axes.count, "a mesh of \(axes.count) axes needs as many coordinates")
        var rank = 0
        for index in axes.indices {
            precondition(
                coordinates[index] >= 0 && coordinates[index] < axes[index].size,
                "a coordinate lies outside of its axis")
            rank += coordinates[index] * strides[index]
        }
        return rank
    }

    /// The coordinate of a rank along an axis, or `nil` when there is no such axis or rank.
    public func coordinate(ofRank rank: Int, along axis: String) -> Int? {
        guard rank >= 0, rank < rankCount, let index = index(of: axis) else { return nil }
        return rank / strides[index] % axes[index].size
    }

    /// The size of an axis, or `nil` when there is none of that name.
    public func size(of axis: String) -> Int? { index(of: axis).map { axes[$0].size } }

    /// Where an axis stands among the axes, or `nil` when there is none of that name.
    package func index(of axis: String) -> Int? { axes.firstIndex { $0.name == axis } }

    private static func isPlain(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "-"), UInt8(ascii: "."):
            true
        default: false
        }
    }

    private static func trimmed(_ text: Substring) -> Substring {
        let start = text.drop { $0 == " " }
        guard let end = start.lastIndex(where: { $0 != " " }) else { return "" }
        return start[...end]
    }
}

extension DeviceMesh: CustomStringConvertible {
    /// `dp=2,tp=4`, as ``init(parsing:)`` reads it.
    public var description: String { axes.map { "\($0.name)=\($0.size)" }.joined(separator: ",") }
}
