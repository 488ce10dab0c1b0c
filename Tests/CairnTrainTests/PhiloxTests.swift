import CairnTrain
import Testing

@Suite struct PhiloxTests {
    /// The known answers of the Random123 distribution (`kat_vectors`, philox4x32 10).
    @Test(
        arguments: [
            ([0, 0, 0, 0], [0, 0], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            (
                [0xffff_ffff, 0xffff_ffff, 0xffff_ffff, 0xffff_ffff], [0xffff_ffff, 0xffff_ffff],
                [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
            ),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
            ),
        ] as [([UInt32], [UInt32], [UInt32])])
    func givesTheKnownAnswers(counter: [UInt32], key: [UInt32], answer: [UInt32]) {
        #expect(Philox.block(counter: SIMD4(counter), key: SIMD2(key)) == SIMD4(answer))
    }

    @Test func normalNumbersHaveTheMomentsOfTheDistribution() {
        var generator = PhiloxGenerator(key: 7)
        let numbers = (0..<100_000).map { _ in generator.normal() }
        let mean = numbers.reduce(0, +) / 1e5
        let variance = numbers.reduce(0) { $0 + $1 * $1 } / 1e5
        let fourth = numbers.reduce(0) { $0 + $1 * $1 * $1 * $1 } / 1e5
        #expect(abs(mean) < 0.015)
        #expect(abs(variance - 1) < 0.02)
        #expect(abs(fourth - 3) < 0.15)
    }

    @Test func aShuffleKeepsTheElementsAndReachesEveryOrder() {
        var generator = PhiloxGenerator(key: 3)
        var seen: [[Int]: Int] = [:]
        for _ in 0..<6000 {
            var elements = [0, 1, 2]
            generator.shuffle(&elements)
            #expect(elements.sorted() == [0, 1, 2])
            seen[elements, default: 0] += 1
        }
        #expect(seen.count == 6)
        #expect(seen.values.allSatisfy { (850...1150).contains($0) }, "\(seen)")
    }

    @Test func streamsAndKeysDiffer() {
        var first = PhiloxGenerator(key: 1)
        var second = PhiloxGenerator(key: 1, stream: 1)
        var third = PhiloxGenerator(key: 2)
        #expect(Set([first.next(), second.next(), third.next(), first.next()]).count == 4)
    }
}
