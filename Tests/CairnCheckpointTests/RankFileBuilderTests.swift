import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

/// Rank files whose pieces are written in any order.
@Suite struct RankFileBuilderTests {
    private let store = CheckpointStore(storage: MemoryStorage(), name: "memory")

    private func options(_ compression: Compression, saveID: Int = 1) -> SaveOptions {
        repeatableOptions(saveID) {
            $0.compression = compression
            $0.replacing = true
        }
    }

    /// Tensors of several pieces, of odd sizes, of one chunk and of none.
    private func fragments() throws -> [TensorFragment] {
        let pieces = RankFileBuilder.pieceByteCount
        return [
            TensorFragment(whole: Tensor((0..<pieces / 4 + 1_500).map { Float($0 / 64) }), name: "long"),
            TensorFragment(whole: Tensor((0..<3_333).map { Float($0 / 64) }), name: "short"),
            TensorFragment(whole: try smallState(5).tensor("weight"), name: "weight"),
            TensorFragment(whole: try Tensor(zeros: .f64, [0, 4]), name: "empty"),
            TensorFragment(whole: try Tensor(zeros: .u8, [pieces * 2 + 1]), name: "zeros"),
        ]
    }

    private func builder(_ session: SaveSession, _ fragments: [TensorFragment]) throws -> RankFileBuilder {
        try session.builder(of: SaveContent(rank: 0, fragments))
    }

    private func write(_ piece: RankFileBuilder.Piece, _ fragments: [TensorFragment], to builder: RankFileBuilder) throws {
        let tensor = fragments[piece.fragment].tensor
        try builder.write(piece, from: tensor.bytes.extracting(piece.byteRange))
    }

    private func storedFile(step: Int) throws -> [UInt8] {
        try store.storage.readAll(store.rankKey(step: step))
    }

    @Test(arguments: [Compression.none, .fast, .zstd(level: 1)], [1, 2, 3])
    func piecesInAnyOrderMakeTheFileOfABlockingSave(_ compression: Compression, _ seed: Int) throws {
        let fragments = try fragments()
        let blocking = try store.beginSave(step: 1, rankCount: 1, options: options(compression))
        try blocking.write(rank: 0, fragments: fragments)
        try blocking.commit()
        let expected = try storedFile(step: 1)
        try store.delete(step: 1)

        var generator = SeededGenerator(seed: UInt64(seed))
        let session = try store.beginSave(step: 1, rankCount: 1, options: options(compression))
        let builder = try builder(session, fragments)
        let order = builder.pieces.shuffled(using: &generator)
        #expect(order.count > 6)
        if seed == 1 {
            for piece in order { try write(piece, fragments, to: builder) }
        } else {
            try ThreadPool.shared.forEach(order.count) { try write(order[$0], fragments, to: builder) }
        }
        try builder.finish()
        builder.discard()
        try session.commit()
        #expect(try storedFile(step: 1) == expected, "seed \(seed)")
        #expect(try store.open(step: 1).verify().isValid)
        let loaded = try store.load(step: 1)
        for fragment in fragments { #expect(try loaded.tensor(fragment.name) == fragment.tensor) }
    }

    @Test func piecesCoverEveryByteOnceInWholeChunks() throws {
        let fragments = try fragments()
        let session = try store.beginSave(step: 1, rankCount: 1, options: options(.zstd()))
        let builder = try builder(session, fragments)
        for (index, fragment) in fragments.enumerated() {
            let own = builder.pieces.filter { $0.fragment == index }
            var (end, chunk) = (0, 0)
            for piece in own {
                #expect(piece.byteRange.lowerBound == end && piece.chunks.lowerBound == chunk)
                #expect(piece.byteRange.count <= RankFileBuilder.pieceByteCount)
                (end, chunk) = (piece.byteRange.upperBound, piece.chunks.upperBound)
            }
            #expect(end == fragment.tensor.byteCount)
        }
        builder.discard()
        #expect(try store.storage.list("").isEmpty)
    }

    @Test(arguments: [Compression.none, .fast, .zstd(level: 1)])
    func aFileThatLacksAPieceIsNotFinished(_ compression: Compression) throws {
        let fragments = try fragments()
        let session = try store.beginSave(step: 1, rankCount: 1, options: options(compression))
        for left in [0, 1] {
            let builder = try builder(session, fragments)
            for (index, piece) in builder.pieces.enumerated() where index != left {
                try write(piece, fragments, to: builder)
            }
            let error = #expect(throws: CairnError.self) { try builder.finish() }
            #expect(error?.code == .incomplete)
            #expect(error?.context.tensor == fragments[builder.pieces[left].fragment].name)
            builder.discard()
        }
        #expect(throws: CairnError.self) { try session.commit() }
        #expect(try store.storage.list("").isEmpty)
    }

    @Test func aPieceIsWrittenOnceWithItsOwnBytes() throws {
        let fragments = try fragments()
        let session = try store.beginSave(step: 1, rankCount: 1, options: options(.none))
        let builder = try builder(session, fragments)
        let piece = try #require(builder.pieces.first)
        let tensor = fragments[piece.fragment].tensor
        let short = #expect(throws: CairnError.self) {
            try builder.write(piece, from: tensor.bytes.extracting(1..<piece.byteRange.upperBound))
        }
        #expect(short?.code == .invalidArgument)
        try write(piece, fragments, to: builder)
        let twice = #expect(throws: CairnError.self) { try write(piece, fragments, to: builder) }
        #expect(twice?.code == .invalidArgument)
        // A piece of another file has other bytes, though its numbers may look alike.
        let other = try RankFileBuilder(
            store.beginSave(step: 2, rankCount: 1, options: options(.none, saveID: 2)), rank: 0, [])
        let foreign = #expect(throws: CairnError.self) { try write(piece, fragments, to: other) }
        #expect(foreign?.code == .invalidArgument)
        builder.discard()
        other.discard()
    }

    @Test func aRankThatTakesNoPartHasNoFile() throws {
        let session = try store.beginSave(step: 1, rankCount: 1, options: options(.none))
        let error = #expect(throws: CairnError.self) { try RankFileBuilder(session, rank: 1, []) }
        #expect(error?.code == .invalidArgument)
    }
}
