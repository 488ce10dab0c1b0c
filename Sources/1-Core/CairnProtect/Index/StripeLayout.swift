import CairnBase
import CairnStorage

/// Where the bytes of a set of files stand in columns, and how columns are cut into stripes.
///
/// A column is pieces of files, end to end. Stripe s is the bytes from s times the block size on of every column; a column that
/// ends earlier is taken as if zeros followed. A segment is what a block and a piece have in common: each has a checksum, so
/// that damage is that of one file.
struct StripeLayout: Sendable {
    /// A file that is protected.
    struct File: Sendable, Hashable {
        /// Its name, from the folder of the parity files on.
        var name: String
        var byteCount: Int
    }

    /// Bytes of one file that stand together in a column.
    struct Piece: Sendable, Hashable {
        var file: Int
        var offset: Int
        var byteCount: Int
    }

    /// A part of a file within one block.
    struct Segment: Sendable, Hashable {
        /// Its place among all segments.
        var index: Int
        var column: Int
        var stripe: Int
        /// Where it is in the block.
        var blockRange: Range<Int>
        var file: Int
        /// Where it begins in the file.
        var offset: Int
    }

    /// A piece and what follows from those before it.
    private struct Placed: Sendable {
        var piece: Piece
        var column: Int
        /// Where it begins in its column.
        var start: Int
        var firstSegment: Int

        var end: Int { start + piece.byteCount }
    }

    static let blockByteCounts = 512...(4 << 20)
    /// All files together.
    static let greatestByteCount = 1 << 60

    let files: [File]
    let columns: [[Piece]]
    let blockByteCount: Int
    /// The length of the longest column, which is that of the parity.
    let parityByteCount: Int
    let segmentCount: Int
    private let placed: [[Placed]]
    /// The pieces of each file, in its order.
    private let piecesOfFiles: [[Placed]]

    /// - Throws: ``CairnError/Code/malformed`` for names that leave the folder or repeat, a block size that is none, and pieces
    ///   that do not hold every byte of every file once.
    init(files: [File], columns: [[Piece]], blockByteCount: Int) throws(CairnError) {
        guard Self.blockByteCounts.contains(blockByteCount), blockByteCount.nonzeroBitCount == 1 else {
            throw Self.flaw(
                "the block size is not allowed", expected: "a power of two from 512 to 4194304", found: "\(blockByteCount)")
        }
        try Self.check(files)
        var placed: [[Placed]] = []
        var ofFiles = [[Placed]](repeating: [], count: files.count)
        var longest = 0, segments = 0
        for (column, pieces) in columns.enumerated() {
            var start = 0
            var placedPieces: [Placed] = []
            for piece in pieces {
                guard files.indices.contains(piece.file), piece.offset >= 0, piece.byteCount > 0,
                    let end = piece.offset.adding(checked: piece.byteCount), end <= files[piece.file].byteCount,
                    let columnEnd = start.adding(checked: piece.byteCount), columnEnd <= Self.greatestByteCount
                else {
                    throw Self.flaw("a piece is not within its file", found: "\(piece)")
                }
                let one = Placed(piece: piece, column: column, start: start, firstSegment: segments)
                // Below 2^60 / 512 + the number of pieces.
                segments += (columnEnd - 1) / blockByteCount - start / blockByteCount + 1
                placedPieces.append(one)
                ofFiles[piece.file].append(one)
                start = columnEnd
            }
            longest = max(longest, start)
            placed.append(placedPieces)
        }
        for file in files.indices {
            ofFiles[file].sort { $0.piece.offset < $1.piece.offset }
            var covered = 0
            for one in ofFiles[file] where one.piece.offset == covered { covered += one.piece.byteCount }
            let total = ofFiles[file].reduce(0) { $0.adding(clamped: $1.piece.byteCount) }
            guard covered == files[file].byteCount, total == covered else {
                throw Self.flaw(
                    "the pieces of a file do not hold each of its bytes once", expected: "\(files[file].byteCount) bytes",
                    found: "\(total)", file: files[file].name)
            }
        }
        self.files = files
        self.columns = columns
        self.blockByteCount = blockByteCount
        parityByteCount = longest
        segmentCount = segments
        self.placed = placed
        piecesOfFiles = ofFiles
    }

    private static func check(_ files: [File]) throws(CairnError) {
        var names = Set<ExactString>()
        var total = 0
        for file in files {
            do throws(CairnError) {
                try StorageKey.validate(file.name)
            } catch {
                throw flaw("the name of a protected file leaves the folder", found: file.name.debugDescription)
            }
            guard names.insert(ExactString(file.name)).inserted, !StorageKey.isTemporary(file.name),
                ParityName(file.name) == nil
            else { throw flaw("a file with this name cannot be protected", found: file.name.debugDescription) }
            guard file.byteCount >= 0, let sum = total.adding(checked: file.byteCount), sum <= greatestByteCount else {
                throw flaw("the protected files are larger than can be", found: "\(file.byteCount)", file: file.name)
            }
            total = sum
        }
    }

    private static func flaw(
        _ message: String, expected: String? = nil, found: String? = nil, file: String? = nil
    ) -> CairnError {
        CairnError(.malformed, message, .init(file: file, expected: expected, found: found))
    }

    var stripeCount: Int { parityByteCount.dividedRoundingUp(by: blockByteCount) }

    var byteCount: Int { files.reduce(0) { $0 + $1.byteCount } }

    /// The bytes of a stripe's blocks: fewer in the last.
    func byteCount(ofStripe stripe: Int) -> Int { min(blockByteCount, parityByteCount - stripe * blockByteCount) }

    /// The memory for one stripe's blocks.
    var bufferByteCount: Int { max(1, min(blockByteCount, parityByteCount)) }

    /// What stands in a block, in its order.
    func segments(column: Int, stripe: Int) -> [Segment] {
        let begin = stripe * blockByteCount
        let end = begin + byteCount(ofStripe: stripe)
        let pieces = placed[column]
        // The first piece that ends behind the block's begin.
        var low = 0, high = pieces.count
        while low < high {
            let middle = (low + high) / 2
            if pieces[middle].end <= begin { low = middle + 1 } else { high = middle }
        }
        var found: [Segment] = []
        while low < pieces.count, pieces[low].start < end {
            found.append(segment(of: pieces[low], stripe: stripe))
            low += 1
        }
        return found
    }

    /// What of a file has bytes of a range, in its order.
    func segments(ofFile file: Int, in range: Range<Int>) -> [Segment] {
        var found: [Segment] = []
        for one in piecesOfFiles[file] {
            let lower = max(range.lowerBound, one.piece.offset)
            let upper = min(range.upperBound, one.piece.offset + one.piece.byteCount)
            guard lower < upper else { continue }
            let shift = one.start - one.piece.offset
            for stripe in (lower + shift) / blockByteCount...(upper - 1 + shift) / blockByteCount {
                found.append(segment(of: one, stripe: stripe))
            }
        }
        return found
    }

    private func segment(of one: Placed, stripe: Int) -> Segment {
        let block = stripe * blockByteCount
        let lower = max(block, one.start), upper = min(block + blockByteCount, one.end)
        return Segment(
            index: one.firstSegment + stripe - one.start / blockByteCount, column: one.column, stripe: stripe,
            blockRange: lower - block..<upper - block, file: one.piece.file, offset: one.piece.offset + lower - one.start)
    }
}
