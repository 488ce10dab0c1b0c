import CairnBase
import CairnCommunication
import Testing

@Suite struct StuckRankTests {
    @Test func ranksThatWaitForEachOthersMessagesAreToldSo() async {
        let ranks = await ThreadedRanks(2) { communicator in
            var values: [Float] = [0, 0]
            try communicator.receive(&values, from: 1 - communicator.rank, tag: 3)
        }
        for error in ranks.errors {
            #expect(error?.code == .mismatch)
            #expect(error?.description.contains("rank 0 waits in receive of 8 bytes from rank 1 with tag 3") == true)
            #expect(error?.description.contains("rank 1 waits in receive of 8 bytes from rank 0 with tag 3") == true)
        }
    }

    @Test func aRankThatEndsWithoutItsCallIsMissed() async {
        let ranks = await ThreadedRanks(3) { communicator in
            if communicator.rank != 1 { try communicator.barrier() }
        }
        #expect(ranks.errors[0]?.description.contains("rank 1 has ended") == true)
        #expect(ranks.errors[2]?.description.contains("rank 0 waits in barrier") == true)
    }

    @Test func aMessageUnderAnotherTagDoesNotHideThatAllWait() async {
        let ranks = await ThreadedRanks(2) { communicator in
            var values: [Float] = [0]
            if communicator.rank == 0 { return try communicator.receive(&values, from: 1, tag: 1) }
            try communicator.send(values, to: 0, tag: 2)
            try communicator.barrier()
        }
        #expect(ranks.errors[0]?.description.contains("rank 1 waits in barrier") == true)
    }

    @Test func aReceiveInOneGroupAndABarrierInAnotherAreFoundOut() async {
        let ranks = await ThreadedRanks(4) { communicator in
            let group = try communicator.split(color: communicator.rank % 2, key: 0)
            var values: [Float] = [0]
            if communicator.rank == 3 { return try communicator.receive(&values, from: 0, tag: 0) }
            try group.barrier()
            try communicator.barrier()
        }
        #expect(ranks.errors.allSatisfy { $0?.code == .mismatch })
        #expect(ranks.errors[0]?.description.contains("rank 3 waits in receive") == true)
    }

    @Test func theMismatchNamesTheRanksOfTheJobAndBothCalls() async {
        let ranks = await ThreadedRanks(4) { communicator in
            let pair = try communicator.split(color: communicator.rank / 2, key: 0)
            var values: [Float] = [0, 0]
            if communicator.rank < 2 { return try pair.barrier() }
            if communicator.rank == 2 { try pair.allReduceSum(&values) } else { try pair.broadcast(&values, from: 1) }
        }
        for rank in [2, 3] {
            let text = ranks.errors[rank]?.description ?? ""
            #expect(text.contains("rank 2 calls allReduceSum of 2 Float values"), "\(text)")
            #expect(text.contains("rank 3 calls broadcast of 8 bytes from rank 3"), "\(text)")
        }
    }

    @Test func aMessageOfAnotherLengthEndsTheGroup() async {
        let ranks = await ThreadedRanks(3) { communicator in
            if communicator.rank == 0 { try communicator.send([1, 2, 3], to: 1, tag: 0) }
            if communicator.rank == 1 {
                var values: [Float] = [0]
                try communicator.receive(&values, from: 0, tag: 0)
            }
            try communicator.barrier()
        }
        #expect(ranks.errors.allSatisfy { $0?.description.contains("rank 0 sends 12 bytes to rank 1") == true })
    }
}
