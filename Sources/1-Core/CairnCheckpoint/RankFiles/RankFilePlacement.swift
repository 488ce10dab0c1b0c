import CairnStorage

/// Where the fragments of a rank file stand in it, known before they are written.
package struct RankFilePlacement: Sendable {
    /// The file's key in the storage.
    package let key: String
    /// The bytes of the header, which is written last.
    package let headerByteCount: Int
    /// The bytes of the file; `nil` where something in it is compressed, so that its length is not known yet.
    package let byteCount: Int?
    /// The bytes of the file that are those of a fragment, by the fragments' numbers, in the order of the file.
    package let fragments: [(number: Int, byteRange: Range<Int>)]
}

extension RankFileBuilder {
    /// Where everything goes.
    package var placement: RankFilePlacement {
        let plan = envelope.plan
        let isRaw = plan.rawCount == plan.items.count
        return RankFilePlacement(
            key: envelope.writer.key, headerByteCount: plan.headerByteCount,
            byteCount: isRaw ? plan.headerByteCount + plan.rawByteCount : nil,
            fragments: plan.items.map { item in
                let range = item.stored.byteRange
                return (item.request, plan.headerByteCount + range.lowerBound..<plan.headerByteCount + range.upperBound)
            })
    }
}
