import CairnBase
import CairnCheckpoint
import CairnTensor

/// The values of shards as those of one checkpoint, and back.
enum GatheredValues {
    /// Those that every shard has and agrees on, by their names; the others as `rank.N.name`.
    static func gather(_ shards: [[NamedValue]]) throws(CairnError) -> [NamedValue] {
        var byName: [ExactString: [Int: Value]] = [:]
        for (rank, values) in shards.enumerated() {
            for value in values { byName[ExactString(value.name), default: [:]][rank] = value.value }
        }
        var result: [NamedValue] = []
        for (name, ranks) in byName {
            if ranks.count == shards.count, let value = ranks[0], ranks.values.allSatisfy({ $0 == value }) {
                result.append(NamedValue(name: name.string, value: value))
            } else {
                for (rank, value) in ranks {
                    result.append(NamedValue(name: "rank.\(rank).\(name.string)", value: value))
                }
            }
        }
        result.sort { ExactString($0.name) < ExactString($1.name) }
        for (one, next) in zip(result, result.dropFirst()) where ExactString(one.name) == ExactString(next.name) {
            throw CairnError(.mismatch, "two values of the shards would have one name", .init(tensor: one.name))
        }
        return result
    }

    /// What a rank has of them: all but those of other ranks.
    static func shard(_ values: [NamedValue], rank: Int) -> [NamedValue] {
        var result: [NamedValue] = []
        for value in values {
            guard let owner = Self.rank(of: value.name) else {
                result.append(value)
                continue
            }
            guard owner.rank == rank else { continue }
            result.append(NamedValue(name: owner.name, value: value.value))
        }
        return result.sorted { ExactString($0.name) < ExactString($1.name) }
    }

    private static func rank(of name: String) -> (rank: Int, name: String)? {
        let parts = name.split(separator: ".", maxSplits: 2, omittingEmptySubsequences: false)
        guard parts.count == 3, parts[0] == "rank", let rank = CanonicalNumber.parse(parts[1].utf8) else { return nil }
        return (rank, String(parts[2]))
    }
}
