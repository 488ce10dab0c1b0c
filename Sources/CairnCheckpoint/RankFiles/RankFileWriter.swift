import CairnBase
import CairnTensor

/// Writes one rank's file at once, from tensors that are all there.
struct RankFileWriter {
    let session: SaveSession
    let rank: Int
    let concurrency: Int
    /// Called from any of the writing threads with the bytes of the last piece; throwing stops the save.
    let progress: @Sendable (Int) throws -> Void

    func write(_ fragments: [TensorFragment], values: [(name: String, value: Value)]) throws {
        let requests = fragments.map {
            FragmentRequest($0, session.compression, chunkByteCount: session.chunkByteCount)
        }
        let builder = try RankFileBuilder(session, rank: rank, requests, values: values)
        do {
            let progress = self.progress
            // Threads that wait for the device come on top of those that compute.
            let width = concurrency == 1 ? 1 : max(concurrency, builder.usefulConcurrency)
            try ThreadPool.waiting.forEach(builder.pieces.count, width: width) { index in
                let piece = builder.pieces[index]
                let tensor = fragments[piece.fragment].tensor
                try builder.write(piece, from: tensor.bytes.extracting(piece.byteRange))
                try progress(piece.byteRange.count)
            }
            try builder.finish()
        } catch {
            builder.discard()
            throw error
        }
    }
}
