import CairnBase
package import CairnTensor

/// What one fragment of a rank file gives to several targets: each chunk that any of them needs is read and verified once.
struct FragmentScatter: Sendable {
    /// One target's part of the fragment.
    private struct TargetPart: Sendable {
        var target: ReadTarget
        /// In the fragment, counted in its own elements, and in the target's local tensor.
        var runs: PairedRuns
    }

    let file: RankFile
    let fragment: StoredFragment
    /// The chunks that are needed, ascending.
    let chunks: [Int]
    private let parts: [TargetPart]
    private let chunkByteCount: Int

    /// - Parameter targets: Regions of the whole tensor inside the fragment's.
    /// - Throws: ``CairnError/Code/mismatch`` when a region does not fit, ``CairnError/Code/unsupported`` when a run of
    ///   packed elements does not begin and end at a byte or types do not convert.
    init(_ file: RankFile, _ fragment: StoredFragment, _ targets: [ReadTarget]) throws(CairnError) {
        self.file = file
        self.fragment = fragment
        chunkByteCount = file.metadata.chunkByteCount
        var parts: [TargetPart] = []
        var needed = [Bool](repeating: false, count: fragment.chunks.count)
        for target in targets where target.region.elementCount > 0 {
            let region = target.region
            guard region.offsets.count == fragment.region.offsets.count,
                zip(region.offsets, fragment.region.offsets).allSatisfy({ $0 >= $1 }),
                region.relative(to: fragment.region.offsets).isInside(fragment.region.shape),
                target.local.isInside(target.shape),
                let runs = PairedRuns(
                    from: region.relative(to: fragment.region.offsets), of: fragment.region.shape, to: target.local,
                    of: target.shape)
            else {
                throw CairnError(
                    .mismatch, "a region does not fit the fragment or its destination",
                    .init(
                        tensor: fragment.name, expected: "inside \(fragment.region)",
                        found: "\(region) to \(target.local) of \(target.shape)"))
            }
            try Self.check(runs, fragment, target)
            NeededChunks.mark(&needed, runs, fragment.scalarType.bitWidth, chunkByteCount)
            parts.append(TargetPart(target: target, runs: runs))
        }
        self.parts = parts
        chunks = needed.indices.filter { needed[$0] }
    }

    /// The bytes that the targets take, before any conversion.
    var neededByteCount: Int {
        parts.reduce(0) { $0 + $1.runs.count * $1.runs.pieceLength * fragment.scalarType.bitWidth / 8 }
    }

    /// Reads some of the chunks, all of them needed or not, and hands their elements out.
    ///
    /// - Parameter buffer: Memory to read into where chunks cannot go straight to their place; grown as needed.
    func read(chunks: Range<Int>, buffer: inout [UInt8]) throws(CairnError) {
        let (begin, end) = (byteRange(of: chunks).lowerBound, byteRange(of: chunks).upperBound)
        let takers = parts.filter { touches($0, begin..<end) }
        if takers.count == 1, let only = takers.first, let memory = straight(only, begin..<end) {
            var bytes = memory.mutableBytes
            try file.read(fragment, at: begin, into: &bytes)
            return
        }
        if buffer.count < end - begin { buffer = [UInt8](repeating: 0, count: end - begin) }
        var span = buffer.mutableSpan
        var bytes = span.mutableBytes
        var part = bytes.part(0..<end - begin)
        try file.read(fragment, at: begin, into: &part)
        try part.bytes.withUnsafeBytes { bytes throws(CairnError) in
            for taker in takers { try hand(out: bytes, from: begin..<end, to: taker) }
        }
    }

    /// Hands out the elements of chunks that another rank has read and verified.
    func handOut(_ bytes: UnsafeRawBufferPointer, chunks: Range<Int>) throws(CairnError) {
        let range = byteRange(of: chunks)
        for part in parts where touches(part, range) { try hand(out: bytes, from: range, to: part) }
    }

    /// The bytes of the fragment that chunks are, expanded.
    func byteRange(of chunks: Range<Int>) -> Range<Int> {
        chunks.lowerBound * chunkByteCount..<min(fragment.byteCount, chunks.upperBound * chunkByteCount)
    }

    private func touches(_ part: TargetPart, _ range: Range<Int>) -> Bool {
        let bits = fragment.scalarType.bitWidth
        let index = part.runs.firstPiece(endingAfter: range.lowerBound * 8 / bits)
        return index < part.runs.count && part.runs.sourceOffset(ofPiece: index) * bits / 8 < range.upperBound
    }

    /// The part of the target's memory that all of the bytes go to in one piece and as they are, if there is one.
    private func straight(_ part: TargetPart, _ range: Range<Int>) -> UnsafeMutableRawBufferPointer? {
        guard part.target.scalarType == fragment.scalarType else { return nil }
        var runs = part.runs
        let bits = fragment.scalarType.bitWidth
        runs.seek(to: runs.firstPiece(endingAfter: range.lowerBound * 8 / bits))
        guard let (source, destination) = runs.next(), source * bits / 8 <= range.lowerBound,
            (source + runs.pieceLength) * bits / 8 >= range.upperBound
        else { return nil }
        let offset = destination * bits / 8 + range.lowerBound - source * bits / 8
        return UnsafeMutableRawBufferPointer(rebasing: part.target.memory[offset..<offset + range.count])
    }

    private func hand(out bytes: UnsafeRawBufferPointer, from range: Range<Int>, to part: TargetPart) throws(CairnError) {
        let (sourceType, targetType) = (fragment.scalarType, part.target.scalarType)
        let (sourceBits, targetBits) = (sourceType.bitWidth, targetType.bitWidth)
        var runs = part.runs
        runs.seek(to: runs.firstPiece(endingAfter: range.lowerBound * 8 / sourceBits))
        while let (source, destination) = runs.next() {
            let start = source * sourceBits / 8
            if start >= range.upperBound { return }
            let begin = max(start, range.lowerBound)
            let end = min(start + runs.pieceLength * sourceBits / 8, range.upperBound)
            guard begin < end else { continue }
            let from = UnsafeRawBufferPointer(rebasing: bytes[begin - range.lowerBound..<end - range.lowerBound])
            // Types that convert have whole bytes, so a cut piece begins and ends at an element; the packed ones are
            // as wide in the target.
            let offset = destination * targetBits / 8 + (begin - start) * targetBits / sourceBits
            let count = (end - begin) * targetBits / sourceBits
            let into = UnsafeMutableRawBufferPointer(rebasing: part.target.memory[offset..<offset + count])
            if sourceType == targetType {
                into.copyMemory(from: from)
            } else {
                var span = into.mutableBytes
                let loss = try ScalarConversion.convertNotingLoss(
                    from.bytes, from: sourceType, into: &span, to: targetType, overflow: part.target.overflow)
                note(loss, at: begin * 8 / sourceBits, count: (end - begin) * 8 / sourceBits, of: part)
            }
        }
    }

    /// Notes what a run of the fragment's elements lost, by the element of the whole tensor that it begins with.
    private func note(_ loss: ConversionLoss, at element: Int, count: Int, of part: TargetPart) {
        guard !loss.isEmpty, let recorder = part.target.recorder else { return }
        var offsets = fragment.region.offsets
        var rest = element
        for (dimension, stride) in fragment.region.shape.strides.enumerated() where stride > 0 {
            offsets[dimension] += rest / stride
            rest %= stride
        }
        let extents = [Int](repeating: 1, count: max(0, offsets.count - 1)) + (offsets.isEmpty ? [] : [count])
        guard let shape = try? Shape(checking: extents), let run = try? Region(offsets: offsets, shape: shape) else { return }
        recorder.add(loss, in: run, shape: fragment.globalShape, from: fragment.scalarType, to: part.target.scalarType)
    }

    private static func check(
        _ runs: PairedRuns, _ fragment: StoredFragment, _ target: ReadTarget
    ) throws(CairnError) {
        let source = fragment.scalarType
        guard ScalarConversion.isSupported(from: source, to: target.scalarType) else {
            throw CairnError(
                .unsupported, "\(source) does not convert to \(target.scalarType)", .init(tensor: fragment.name))
        }
        guard let byteCount = target.scalarType.byteCount(elementCount: target.shape.elementCount),
            byteCount == target.memory.count
        else {
            throw CairnError(
                .mismatch, "the memory of a local tensor has another size than its shape needs",
                .init(
                    tensor: fragment.name, expected: "\(target.scalarType)\(target.shape)",
                    found: "\(target.memory.count) bytes"))
        }
        guard source.isPacked else { return }
        for (from, into) in runs
        where [from, into, runs.pieceLength].contains(where: { $0 * source.bitWidth % 8 != 0 }) {
            throw CairnError(
                .unsupported, "a region of packed elements must begin and end at whole bytes",
                .init(tensor: fragment.name, found: "\(target.region)"))
        }
    }
}

/// The chunks of one stored fragment that reading parts of it takes: known from metadata alone.
package struct NeededChunks {
    /// How many chunks are needed.
    package private(set) var count = 0
    /// The bytes of those chunks, expanded.
    package private(set) var byteCount = 0
    /// The chunks, ascending.
    private(set) var chunks: [Int] = []

    /// - Parameters:
    ///   - regions: Of the whole tensor; what lies outside of the fragment is left out.
    ///   - fragment: The fragment's region.
    package init(of regions: [Region], in fragment: Region, _ scalarType: ScalarType, chunkByteCount: Int) {
        let total = scalarType.byteCount(elementCount: fragment.elementCount) ?? 0
        var needed = [Bool](repeating: false, count: total.dividedRoundingUp(by: chunkByteCount))
        for region in regions {
            guard let common = region.intersection(fragment) else { continue }
            let own = common.relative(to: fragment.offsets)
            guard
                let runs = PairedRuns(
                    from: own, of: fragment.shape, to: Region(whole: own.shape), of: own.shape)
            else { continue }
            Self.mark(&needed, runs, scalarType.bitWidth, chunkByteCount)
        }
        for chunk in needed.indices where needed[chunk] {
            chunks.append(chunk)
            byteCount += min(total, (chunk + 1) * chunkByteCount) - chunk * chunkByteCount
        }
        count = chunks.count
    }

    /// Marks the chunks that hold the source's elements of some runs.
    static func mark(_ needed: inout [Bool], _ runs: PairedRuns, _ bits: Int, _ chunkByteCount: Int) {
        var index = 0
        while index < runs.count {
            let offset = runs.sourceOffset(ofPiece: index)
            let first = offset * bits / 8 / chunkByteCount
            let last = ((offset + runs.pieceLength) * bits / 8 - 1) / chunkByteCount
            for chunk in first...last { needed[chunk] = true }
            // Whatever else begins in the last chunk needs nothing more.
            let next = runs.firstPiece(endingAfter: (last + 1) * chunkByteCount * 8 / bits)
            index = max(index + 1, next)
        }
    }
}
