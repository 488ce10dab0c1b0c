package import CairnBase
import CairnProtect

/// Which member of a group holds what of a save: blocks of its own, and parity of the others' blocks.
///
/// Each member's bundle is cut into as many equal blocks as there are columns of data. A stripe has one block of each of so many
/// members, and the others hold its parity, turning from stripe to stripe as in RAID 5. So parity takes m / (n - m) of the memory
/// of a bundle. After RAIM5 of REFT (arXiv 2310.12670) and the redundancy sets of SCR.
package struct GroupLayout: Sendable, Hashable {
    package let memberCount: Int
    package let parityCount: Int

    package init(memberCount: Int, parityCount: Int) {
        self.memberCount = memberCount
        self.parityCount = parityCount
    }

    /// How many blocks of data a stripe has, and a bundle.
    package var dataCount: Int { memberCount - parityCount }

    /// The stripe that a block of a member's bundle is in.
    package func stripe(ofBlock block: Int, of member: Int) -> Int {
        (member - parityCount - block + 2 * memberCount) % memberCount
    }

    /// Who holds a row of a stripe: first the rows of data, then those of parity.
    package func member(ofRow row: Int, in stripe: Int) -> Int {
        row < dataCount ? (stripe + parityCount + row) % memberCount : (stripe + row - dataCount) % memberCount
    }

    /// The stripes of which a member holds parity.
    package func stripes(heldBy member: Int) -> [Int] {
        (0..<parityCount).map { (member - $0 + memberCount) % memberCount }
    }

    /// Which of a stripe's parities a member holds; `nil` if it has data in it.
    package func parity(of member: Int, in stripe: Int) -> Int? {
        let distance = (member - stripe + memberCount) % memberCount
        return distance < parityCount ? distance : nil
    }
}

/// How parity adds up: plain sums (XOR) where there is one parity, else the Reed-Solomon code of checkpoints on disk.
package struct GroupCode: Sendable {
    private let layout: GroupLayout
    private let code: ErasureCode?

    package init(_ layout: GroupLayout) throws(CairnError) {
        self.layout = layout
        code =
            layout.parityCount > 1
            ? try ErasureCode(dataCount: layout.dataCount, parityCount: layout.parityCount) : nil
    }

    /// What a block of data counts in a parity.
    package func coefficient(parity: Int, column: Int) -> UInt8 { code?.coefficient(parity: parity, column: column) ?? 1 }

    /// What the given rows, as many as there is data, count in a lost one.
    package func coefficients(of lost: Int, from rows: [Int]) throws(CairnError) -> [UInt8] {
        if let code { return try code.coefficients(of: [lost], from: rows) }
        guard rows.count == layout.dataCount else {
            throw CairnError(
                .incomplete, "too few blocks of the stripe are left",
                .init(expected: "\(layout.dataCount)", found: "\(rows.count)"))
        }
        return [UInt8](repeating: 1, count: rows.count)
    }

    package static func add(_ source: [UInt8], times coefficient: UInt8, to target: inout [UInt8]) {
        ErasureCode.add(source, times: coefficient, to: &target)
    }
}
