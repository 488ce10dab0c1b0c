import CairnCommunication

extension CommunicatorConformance {
    static let messages: [CommunicatorConformance] = [
        CommunicatorConformance("sendingToTheNextRankNeverWaits") { communicator, _ in
            let next = (communicator.rank + 1) % communicator.size
            let previous = (communicator.rank + communicator.size - 1) % communicator.size
            for count in [0, 1, 1_000, 300_000] {
                let sent = ConformanceRandom.values(count, rank: communicator.rank, salt: 3)
                try communicator.send(sent, to: next, tag: 7)
                var received = [Float](repeating: 0, count: count)
                try communicator.receive(&received, from: previous, tag: 7)
                try requireEqual(
                    received, ConformanceRandom.values(count, rank: previous, salt: 3), "\(count) values received")
            }
        },
        CommunicatorConformance("tagsTellMessagesApartAndKeepTheirOrder") { communicator, _ in
            for receiver in 0..<communicator.size {
                for tag in [0, 1, 32_767] {
                    for turn in 0..<3 {
                        let sent = [Float(communicator.rank), Float(tag), Float(turn)]
                        try communicator.send(sent, to: receiver, tag: tag)
                    }
                }
            }
            for sender in (0..<communicator.size).reversed() {
                for tag in [32_767, 0, 1] {
                    for turn in 0..<3 {
                        var received: [Float] = [0, 0, 0]
                        try communicator.receive(&received, from: sender, tag: tag)
                        try requireEqual(received, [Float(sender), Float(tag), Float(turn)], "message \(turn)")
                    }
                }
            }
        },
        CommunicatorConformance("pipelinesOfMessagesAndSumsMix") { communicator, _ in
            let (rank, size) = (communicator.rank, communicator.size)
            for step in 0..<30 {
                var value: [Float] = [Float(step)]
                if rank > 0 { try communicator.receive(&value, from: rank - 1, tag: step) }
                value[0] += 1
                if rank < size - 1 { try communicator.send(value, to: rank + 1, tag: step) }
                try requireEqual(value[0], Float(step + rank + 1), "the value of step \(step)")
                if step % 5 == 0 {
                    try requireEqual(try communicator.sum(1), Double(size), "the sum in step \(step)")
                }
            }
        },
    ]
}

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

extension CommunicatorConformance {
    static let sums: [CommunicatorConformance] = [
        CommunicatorConformance("sumsAreThoseInRankOrderToTheBit") { communicator, random in
            for count in random.sizes() {
                let salt = random.next()
                var values = ConformanceRandom.values(count, rank: communicator.rank, salt: salt)
                try communicator.allReduceSum(&values)
                let expected = sumInRankOrder(count, ranks: communicator.size, salt: salt)
                try requireEqual(values.map(\.bitPattern), expected.map(\.bitPattern), "sum of \(count) Float values")
            }
        },
        CommunicatorConformance("sumsOfDoublesAreThoseInRankOrderToTheBit") { communicator, random in
            for count in random.sizes() {
                let salt = random.next()
                var values = doubles(count, rank: communicator.rank, salt: salt)
                try communicator.allReduceSum(&values)
                var expected = doubles(count, rank: 0, salt: salt)
                for rank in 1..<max(1, communicator.size) {
                    for (index, term) in doubles(count, rank: rank, salt: salt).enumerated() { expected[index] += term }
                }
                try requireEqual(values.map(\.bitPattern), expected.map(\.bitPattern), "sum of \(count) Double values")
            }
        },
        CommunicatorConformance("scatteredSumsAreThoseOfTheWholeAndLeaveTheRestAlone") { communicator, random in
            for _ in 0..<8 {
                let salt = random.next()
                let counts = random.counts(communicator.size, upTo: 9_000)
                let count = counts.reduce(0, +)
                var values = ConformanceRandom.values(count, rank: communicator.rank, salt: salt)
                var expected = values
                let begin = counts[..<communicator.rank].reduce(0, +)
                let own = begin..<begin + counts[communicator.rank]
                let sums = sumInRankOrder(count, ranks: communicator.size, salt: salt)
                expected.replaceSubrange(own, with: sums[own])
                try communicator.reduceScatterSum(&values, counts: counts)
                try requireEqual(values.map(\.bitPattern), expected.map(\.bitPattern), "sums scattered as \(counts)")
                var wide = expected.map(Double.init)
                let before = wide
                try communicator.reduceScatterSum(&wide, counts: counts)
                for index in wide.indices where !own.contains(index) {
                    try requireEqual(wide[index], before[index], "element \(index) of another rank's slice")
                }
            }
        },
        CommunicatorConformance("oneValueOfEachRankIsSummed") { communicator, _ in
            let size = communicator.size
            try requireEqual(
                try communicator.sum(Double(communicator.rank + 1)), Double(size * (size + 1) / 2), "sum of the ranks")
        },
    ]
}

private func doubles(_ count: Int, rank: Int, salt: UInt64) -> [Double] {
    ConformanceRandom.values(count, rank: rank, salt: salt).map { Double($0) / 3 }
}

private func sumInRankOrder(_ count: Int, ranks: Int, salt: UInt64) -> [Float] {
    var sums = ConformanceRandom.values(count, rank: 0, salt: salt)
    for rank in 1..<max(1, ranks) {
        for (index, term) in ConformanceRandom.values(count, rank: rank, salt: salt).enumerated() {
            sums[index] += term
        }
    }
    return sums
}
