import CairnCommunication

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
