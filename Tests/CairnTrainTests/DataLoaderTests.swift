import CairnTrain
import Testing

@Suite struct DataLoaderTests {
    @Test(arguments: [1, 2, 3, 16, 17, 100, 1023, 1024, 1025, 7001])
    func everyEpochVisitsEachExampleOnceInAnOrderOfItsOwn(count: Int) {
        var loader = DataLoader(exampleCount: count, seed: 9)
        var orders: [[Int]] = []
        for epoch in 0..<3 {
            #expect(loader.epoch == epoch)
            var order: [Int] = []
            while order.count < count { order += loader.next(1) }
            #expect(order.sorted() == Array(0..<count))
            orders.append(order)
        }
        if count > 15 {
            #expect(Set(orders).count == 3)
            #expect(orders[0] != Array(0..<count))
        }
    }

    @Test func batchesGoOnAcrossTheEndOfAnEpoch() {
        var whole = DataLoader(exampleCount: 10, seed: 4)
        var parts = whole
        let expected = whole.next(30)
        let found = parts.next(7) + parts.next(7) + parts.next(7) + parts.next(9)
        #expect(found == expected)
        #expect(whole == parts)
        #expect(parts.epoch == 3)
        #expect(parts.position == 0)
    }

    @Test func seedsGiveDifferentOrders() {
        var first = DataLoader(exampleCount: 100, seed: 1)
        var second = DataLoader(exampleCount: 100, seed: 2)
        #expect(first.next(100) != second.next(100))
    }
}
