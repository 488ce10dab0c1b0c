import CairnBase
import CairnKeeper
import CairnKeeperGroup
import CairnTesting
import Testing

@Suite struct GroupLayoutTests {
    private static let layouts = (2...6).flatMap { count in
        (1..<count).map { GroupLayout(memberCount: count, parityCount: $0) }
    }

    @Test(arguments: layouts)
    func everyStripeHasOneRowOfEachMemberAndEveryBlockIsInOne(_ layout: GroupLayout) {
        for stripe in 0..<layout.memberCount {
            let members = (0..<layout.memberCount).map { layout.member(ofRow: $0, in: stripe) }
            #expect(members.sorted() == Array(0..<layout.memberCount))
            for (row, member) in members.enumerated() {
                let parity = layout.parity(of: member, in: stripe)
                #expect(parity == (row < layout.dataCount ? nil : row - layout.dataCount))
                #expect(layout.stripes(heldBy: member).contains(stripe) == (parity != nil))
            }
        }
        for member in 0..<layout.memberCount {
            let stripes = (0..<layout.dataCount).map { layout.stripe(ofBlock: $0, of: member) }
            #expect(Set(stripes).count == layout.dataCount)
            // A block is the row of data of its own number.
            for (block, stripe) in stripes.enumerated() { #expect(layout.member(ofRow: block, in: stripe) == member) }
        }
    }

    @Test(arguments: layouts)
    func anyRowsThatParityCoversAreComputedFromTheOthers(_ layout: GroupLayout) throws {
        let seed = UInt64.random(in: 0...UInt64.max)
        var generator = SeededGenerator(seed: seed)
        let code = try GroupCode(layout)
        var rows = (0..<layout.dataCount).map { _ in (0..<97).map { _ in UInt8.random(in: 0...255, using: &generator) } }
        for parity in 0..<layout.parityCount {
            var sum = [UInt8](repeating: 0, count: 97)
            for column in (0..<layout.dataCount).shuffled(using: &generator) {
                GroupCode.add(rows[column], times: code.coefficient(parity: parity, column: column), to: &sum)
            }
            rows.append(sum)
        }
        for pattern in 0..<(1 << layout.memberCount) where pattern.nonzeroBitCount == layout.parityCount {
            let left = (0..<layout.memberCount).filter { pattern >> $0 & 1 == 0 }
            for lost in 0..<layout.dataCount where pattern >> lost & 1 == 1 {
                var bytes = [UInt8](repeating: 0, count: 97)
                for (row, coefficient) in zip(left, try code.coefficients(of: lost, from: left)) {
                    GroupCode.add(rows[row], times: coefficient, to: &bytes)
                }
                #expect(bytes == rows[lost], "seed \(seed), lost \(String(pattern, radix: 2))")
            }
        }
    }

    @Test func checksumsFindEveryChangedByteOfABundle() throws {
        var bytes = (0..<1000).map { UInt8(truncatingIfNeeded: $0 * 7) }
        let cell = try BundleDescriptor.cell(for: 1000)
        let checksums = stride(from: 0, to: 1000, by: cell).map {
            CRC32C.checksum(bytes[$0..<min($0 + cell, 1000)].span.bytes)
        }
        let descriptor = try BundleDescriptor(
            items: [.init(key: "a", byteCount: 400), .init(key: "b", byteCount: 600)], checksums: checksums)
        #expect(descriptor.isRight(bytes, at: 0))
        #expect(descriptor.range(of: "b") == 400..<1000)
        #expect(descriptor.parts(of: 390..<410).map(\.key) == ["a", "b"])
        for index in bytes.indices {
            bytes[index] ^= 1
            #expect(!descriptor.isRight(bytes, at: 0))
            bytes[index] ^= 1
        }
        #expect(refusal { _ = try BundleDescriptor(items: [.init(key: "a", byteCount: 1)], checksums: []) }?.code == .malformed)
        #expect(
            refusal { _ = try BundleDescriptor(items: [.init(key: "a", byteCount: 1 << 50)], checksums: []) }?.code
                == .unsupported)
    }

    @Test func parityTakesItsShareAndLittlePadding() throws {
        for byteCount in [1_000_000, 50_000_000, 3_000_000_000] {
            let cell = try BundleDescriptor.cell(for: byteCount)
            let descriptor = try BundleDescriptor(
                items: [.init(key: "a", byteCount: byteCount)],
                checksums: Array(repeating: 0, count: byteCount.dividedRoundingUp(by: cell)))
            let geometry = SaveGeometry([descriptor, descriptor, descriptor, descriptor], dataCount: 3)
            #expect(Double(geometry.block) < Double(byteCount) / 3 * 1.03)
        }
    }
}
