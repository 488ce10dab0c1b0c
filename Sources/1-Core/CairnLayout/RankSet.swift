import CairnBase

/// Ranks in ascending order, kept as what they have in common instead of one by one.
///
/// The replicas of a fragment in a mesh of 16,384 ranks are "dp: any, tp: 3": a `RankSet` of that holds three numbers.
/// Counting, indexing and testing for membership need no enumeration.
package struct RankSet: Sendable, Hashable, RandomAccessCollection {
    /// Which coordinates along one axis belong.
    package enum Choice: Sendable, Hashable {
        case all
        case only(Int)
        /// Ascending.
        case some([Int])

        package func count(of size: Int) -> Int {
            switch self {
            case .all: size
            case .only: 1
            case .some(let list): list.count
            }
        }
    }

    private enum Members: Sendable, Hashable {
        case product(DeviceMesh, [Choice])
        case listed([Int])
    }

    private let members: Members
    /// How many ranks belong.
    package let count: Int

    package init(mesh: DeviceMesh, choices: [Choice]) {
        members = .product(mesh, choices)
        count = zip(mesh.axes, choices).reduce(1) { $0 * $1.1.count(of: $1.0.size) }
    }

    /// Ascending ranks without repetition.
    package init(listed ranks: [Int]) {
        members = .listed(ranks)
        count = ranks.count
    }

    package var startIndex: Int { 0 }
    package var endIndex: Int { count }

    /// The rank at a position in ascending order.
    package subscript(position: Int) -> Int {
        precondition(position >= 0 && position < count, "a position lies outside of a rank set")
        switch members {
        case .listed(let ranks): return ranks[position]
        case .product(let mesh, let choices):
            var rest = position
            var rank = 0
            for axis in choices.indices.reversed() {
                let size = mesh.axes[axis].size
                let coordinate: Int
                switch choices[axis] {
                case .all:
                    coordinate = rest % size
                    rest /= size
                case .only(let only): coordinate = only
                case .some(let list):
                    coordinate = list[rest % list.count]
                    rest /= list.count
                }
                rank += coordinate * mesh.strides[axis]
            }
            return rank
        }
    }

    /// Whether a rank belongs.
    package func contains(_ rank: Int) -> Bool {
        switch members {
        case .listed(let ranks):
            let position = ranks.firstPosition { $0 >= rank }
            return position < ranks.count && ranks[position] == rank
        case .product(let mesh, let choices):
            guard rank >= 0, rank < mesh.rankCount else { return false }
            return choices.indices.allSatisfy { axis in
                let coordinate = rank / mesh.strides[axis] % mesh.axes[axis].size
                return switch choices[axis] {
                case .all: true
                case .only(let only): coordinate == only
                case .some(let list): list.contains(coordinate)
                }
            }
        }
    }
}

extension RankSet: CustomStringConvertible {
    /// `[0, 4, 8]`, shortened behind eight ranks.
    package var description: String {
        let shown = prefix(8).map { "\($0)" }.joined(separator: ", ")
        return count > 8 ? "[\(shown), … \(count) ranks]" : "[\(shown)]"
    }
}
