import CairnBase
package import CairnCommunication
import CairnTesting

/// One behaviour that every ``Communicator`` must show: a check that throws ``ConformanceFailure`` where it does not.
///
/// Every rank of the group runs the same checks in the same order, with the same seed.
package struct CommunicatorConformance: Sendable, CustomStringConvertible {
    /// A sentence in camel case.
    package let name: String
    private let body: @Sendable (any Communicator, inout ConformanceRandom) throws -> Void

    init(_ name: String, _ body: @escaping @Sendable (any Communicator, inout ConformanceRandom) throws -> Void) {
        self.name = name
        self.body = body
    }

    /// Runs this check on the calling rank.
    package func check(_ communicator: any Communicator, seed: UInt64 = 1) throws {
        var random = ConformanceRandom(seed: seed)
        do {
            try body(communicator, &random)
        } catch let failure as ConformanceFailure {
            throw ConformanceFailure(
                description: "\(name), rank \(communicator.rank) of \(communicator.size), seed \(seed): \(failure)")
        }
    }

    /// Runs every check on the calling rank.
    package static func run(_ communicator: any Communicator, seed: UInt64 = 1) throws {
        for conformance in all { try conformance.check(communicator, seed: seed) }
    }

    package var description: String { name }

    /// Every check.
    package static let all: [CommunicatorConformance] = sums + movements + messages + groups + mistakes
}

/// A communicator did not do what ``Communicator`` promises.
package struct ConformanceFailure: Error, CustomStringConvertible {
    package var description: String
}

func require(_ condition: Bool, _ message: @autoclosure () -> String) throws {
    if !condition { throw ConformanceFailure(description: message()) }
}

func requireEqual<Value: Equatable>(_ found: Value, _ expected: Value, _ what: String) throws {
    try require(
        found == expected,
        "\(what): expected \(String(describing: expected).prefix(200)), "
            + "found \(String(describing: found).prefix(200))")
}

/// The error of `body`, which must be a ``CairnError`` of that code.
@discardableResult
func requireError(_ code: CairnError.Code, _ what: String, _ body: () throws -> Void) throws -> CairnError {
    do {
        try body()
    } catch let error as CairnError {
        try requireEqual(error.code, code, "\(what), \(error)")
        return error
    }
    throw ConformanceFailure(description: "\(what): expected the error \(code), found none")
}

/// Numbers that are the same on every rank.
package struct ConformanceRandom: RandomNumberGenerator {
    private var generator: SeededGenerator

    package init(seed: UInt64) { generator = SeededGenerator(seed: seed) }

    package mutating func next() -> UInt64 { generator.next() }

    /// `count` values of very different magnitudes, whose sum depends on the order it is taken in.
    static func values(_ count: Int, rank: Int, salt: UInt64) -> [Float] {
        var random = ConformanceRandom(seed: salt &* 1_000_003 &+ UInt64(rank))
        return (0..<count).map { _ in
            let magnitude = Float(sign: .plus, exponent: Int.random(in: -20...20, using: &random), significand: 1)
            return Float.random(in: -1...1, using: &random) * magnitude
        }
    }

    /// `count` bytes of `rank`.
    static func bytes(_ count: Int, rank: Int, salt: UInt64) -> [UInt8] {
        var random = ConformanceRandom(seed: salt &* 1_000_003 &+ UInt64(rank))
        return (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
    }

    /// Sizes around the cuts that implementations make, and random ones.
    mutating func sizes() -> [Int] {
        [0, 1, 15, 16, 17, 2_047, 2_049] + (0..<4).map { _ in Int.random(in: 0...40_000, using: &self) }
    }

    /// A count for each rank, some of them zero.
    mutating func counts(_ size: Int, upTo limit: Int) -> [Int] {
        (0..<size).map { _ in Bool.random(using: &self) ? Int.random(in: 0...limit, using: &self) : 0 }
    }
}

extension CommunicatorConformance {
    /// Each mistake ends a group that was split off for it.
    static let mistakes: [CommunicatorConformance] = [
        CommunicatorConformance("anotherCallIsAMismatchOnEveryRank") { communicator, _ in
            try requireMismatch(communicator, naming: ["barrier", "allReduceSum of 3 Float values"]) { group, isOdd in
                var values: [Float] = [1, 2, 3]
                if isOdd { try group.barrier() } else { try group.allReduceSum(&values) }
            }
        },
        CommunicatorConformance("anotherSizeIsAMismatchOnEveryRank") { communicator, _ in
            try requireMismatch(communicator, naming: ["of 4 Float values", "of 3 Float values"]) { group, isOdd in
                var values = [Float](repeating: 0, count: isOdd ? 4 : 3)
                try group.allReduceSum(&values)
            }
        },
        CommunicatorConformance("anotherScalarTypeIsAMismatchOnEveryRank") { communicator, _ in
            try requireMismatch(communicator, naming: ["of 2 Float values", "of 2 Double values"]) { group, isOdd in
                var floats: [Float] = [0, 0]
                var doubles: [Double] = [0, 0]
                if isOdd { try group.allReduceSum(&doubles) } else { try group.allReduceSum(&floats) }
            }
        },
        CommunicatorConformance("anotherRootIsAMismatchOnEveryRank") { communicator, _ in
            try requireMismatch(communicator, naming: ["from rank 0", "from rank 1"]) { group, isOdd in
                var values: [Float] = [1]
                try group.broadcast(&values, from: isOdd ? 1 : 0)
            }
        },
        CommunicatorConformance("otherCountsOfTheSameSumAreAMismatchOnEveryRank") { communicator, _ in
            try requireMismatch(communicator, naming: ["other counts"]) { group, isOdd in
                var counts = [Int](repeating: 0, count: group.size)
                counts[isOdd ? 1 : 0] = 8
                var values = [Float](repeating: 0, count: 8)
                try group.reduceScatterSum(&values, counts: counts)
            }
        },
        CommunicatorConformance("aMessageOfAnotherLengthIsAMismatch") { communicator, _ in
            let single = try communicator.split(color: communicator.rank, key: 0)
            try single.send([1, 2], to: 0, tag: 0)
            let error = try requireError(.mismatch, "a longer message") {
                var received: [Float] = [0]
                try single.receive(&received, from: 0, tag: 0)
            }
            let text = "\(error)"
            try require(text.contains("8 bytes") && text.contains("4 bytes"), "the error names both sizes: \(text)")
        },
        CommunicatorConformance("ranksAndTagsThatAreNoneAreRefused") { communicator, _ in
            try requireError(.invalidArgument, "a rank too large") {
                try communicator.send([1], to: communicator.size, tag: 0)
            }
            try requireError(.invalidArgument, "a negative rank") { try communicator.send([1], to: -1, tag: 0) }
            try requireError(.invalidArgument, "a tag too large") { try communicator.send([1], to: 0, tag: 32_768) }
            try requireError(.invalidArgument, "a negative tag") {
                var received: [Float] = [0]
                try communicator.receive(&received, from: 0, tag: -1)
            }
        },
    ]
}

/// Lets even and odd ranks make different calls: every rank gets an error with those words, then and ever after.
private func requireMismatch(
    _ communicator: any Communicator, naming words: [String], _ body: (any Communicator, Bool) throws -> Void
) throws {
    guard communicator.size > 1 else { return }
    let group = try communicator.split(color: 0, key: communicator.rank)
    let error = try requireError(.mismatch, "the mismatch") { try body(group, communicator.rank % 2 == 1) }
    let text = "\(error)"
    for word in words { try require(text.contains(word), "the error names \"\(word)\": \(text)") }
    try requireError(.mismatch, "a later call") { try group.barrier() }
    try communicator.barrier()
}

extension CommunicatorConformance {
    static let groups: [CommunicatorConformance] = [
        CommunicatorConformance("gridsOfSubgroupsSumAlongTheirAxes") { communicator, _ in
            let (rank, size) = (communicator.rank, communicator.size)
            for width in 1...size {
                let row = try communicator.split(color: rank / width, key: rank)
                let column = try communicator.split(color: rank % width, key: rank)
                let rowRanks = (0..<size).filter { $0 / width == rank / width }
                let columnRanks = (0..<size).filter { $0 % width == rank % width }
                try requireEqual([row.rank, row.size], [rank % width, rowRanks.count], "rank and size in the row")
                try requireEqual([column.rank, column.size], [rank / width, columnRanks.count], "in the column")
                try requireEqual(try row.sum(Double(rank)), Double(rowRanks.reduce(0, +)), "sum of the row")
                try requireEqual(try column.sum(Double(rank)), Double(columnRanks.reduce(0, +)), "sum of the column")
            }
        },
        CommunicatorConformance("keysOrderTheRanksOfASubgroup") { communicator, _ in
            let (rank, size) = (communicator.rank, communicator.size)
            let reversed = try communicator.split(color: 0, key: -rank)
            try requireEqual([reversed.rank, reversed.size], [size - 1 - rank, size], "rank and size by key")
            let messages = try reversed.allGather(message: [UInt8(truncatingIfNeeded: rank)])
            try requireEqual(messages, (0..<size).reversed().map { [UInt8($0)] }, "messages by key")
            let same = try reversed.split(color: 4, key: 0)
            try requireEqual(same.rank, reversed.rank, "rank where all keys are equal")
        },
        CommunicatorConformance("messagesOfAGroupAreNotSeenByAnother") { communicator, _ in
            let other = try communicator.split(color: 1, key: communicator.rank)
            let peer = communicator.size - 1 - communicator.rank
            try communicator.send([1], to: peer, tag: 2)
            try other.send([2], to: peer, tag: 2)
            var received: [Float] = [0]
            try other.receive(&received, from: peer, tag: 2)
            try requireEqual(received, [2], "the message of the subgroup")
            try communicator.receive(&received, from: peer, tag: 2)
            try requireEqual(received, [1], "the message of the whole group")
        },
    ]
}
