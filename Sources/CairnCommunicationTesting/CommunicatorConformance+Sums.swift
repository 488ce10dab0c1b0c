import CairnCommunication

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
