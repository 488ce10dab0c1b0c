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
