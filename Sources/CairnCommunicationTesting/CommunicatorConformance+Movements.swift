import CairnCommunication

extension CommunicatorConformance {
    static let movements: [CommunicatorConformance] = [
        CommunicatorConformance("barriersReturn") { communicator, _ in
            for _ in 0..<20 { try communicator.barrier() }
        },
        CommunicatorConformance("broadcastsReachEveryRankFromEveryRoot") { communicator, random in
            for root in 0..<communicator.size {
                for count in [0, 1, 1_000, Int.random(in: 0...100_000, using: &random)] {
                    let salt = random.next()
                    var bytes = ConformanceRandom.bytes(count, rank: communicator.rank, salt: salt)
                    var span = bytes.mutableSpan
                    var raw = span.mutableBytes
                    try communicator.broadcast(&raw, from: root)
                    try requireEqual(
                        bytes, ConformanceRandom.bytes(count, rank: root, salt: salt), "\(count) bytes of rank \(root)")
                }
            }
        },
        CommunicatorConformance("slicesOfAllRanksAreGatheredInPlace") { communicator, random in
            for _ in 0..<8 {
                let salt = random.next()
                let counts = random.counts(communicator.size, upTo: 9_000)
                var values = [Float](repeating: -1, count: counts.reduce(0, +))
                var expected: [Float] = []
                for rank in 0..<communicator.size {
                    let slice = ConformanceRandom.values(counts[rank], rank: rank, salt: salt)
                    if rank == communicator.rank {
                        values.replaceSubrange(expected.count..<expected.count + slice.count, with: slice)
                    }
                    expected += slice
                }
                try communicator.allGather(&values, counts: counts)
                try requireEqual(values, expected, "slices of \(counts)")
            }
        },
        CommunicatorConformance("messagesOfAnyLengthAreGatheredAtEveryRoot") { communicator, random in
            for root in 0..<communicator.size {
                let salt = random.next()
                let counts = random.counts(communicator.size, upTo: 2_000)
                let expected = counts.indices.map { ConformanceRandom.bytes(counts[$0], rank: $0, salt: salt) }
                let gathered = try communicator.gather(expected[communicator.rank], at: root)
                try requireEqual(gathered, communicator.rank == root ? expected : nil, "messages at rank \(root)")
                try requireEqual(
                    try communicator.allGather(message: expected[communicator.rank]), expected, "messages everywhere")
            }
        },
        CommunicatorConformance("aMessageOfTheRootReachesEveryRank") { communicator, random in
            for root in 0..<communicator.size {
                for count in [0, 1, Int.random(in: 0...5_000, using: &random)] {
                    let expected = ConformanceRandom.bytes(count, rank: root, salt: 5)
                    let message = try communicator.broadcast(
                        message: communicator.rank == root ? expected : nil, from: root)
                    try requireEqual(message, expected, "a message of \(count) bytes of rank \(root)")
                }
            }
        },
    ]
}
