import CairnBase
import CairnCommunication

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
