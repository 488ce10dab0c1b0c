import CairnBase
import CairnCheckpoint
import CairnTensor

/// Finds the sections of a sharded dimension by looking up a shard's slices in the whole tensor.
struct SectionFinder {
    let name: String
    let dimension: Int

    /// More slices than this are not looked at.
    private static let greatestSliceCount = 1 << 20
    private static let greatestSectionCount = 4096

    /// - Returns: The sizes of the sections in the whole tensor and how often they repeat, or `nil` when the first
    ///   shard's slices do not lie in it in runs that evenly divided sections would make.
    func sections(
        whole: any CheckpointReader, part: any CheckpointReader, partCount: Int
    ) throws(CairnError) -> (sizes: [Int], repeats: Int)? {
        let slices = try hashes(whole), partSlices = try hashes(part)
        guard slices.count <= Self.greatestSliceCount, slices.count == partSlices.count * partCount else { return nil }
        var positions: [Int: Int] = [:]
        // Slices that occur twice say nothing of where they are from.
        for (position, hash) in slices.enumerated() where positions.updateValue(position, forKey: hash) != nil { return nil }
        var runs: [(start: Int, count: Int)] = []
        for hash in partSlices {
            guard let position = positions[hash] else { return nil }
            if let last = runs.last, last.start + last.count == position {
                runs[runs.count - 1].count += 1
            } else {
                runs.append((position, 1))
            }
        }
        guard runs.count <= Self.greatestSectionCount else { return nil }
        var start = 0
        var sizes: [Int] = []
        for run in runs {
            guard run.start == start else { return nil }
            sizes.append(run.count * partCount)
            start += run.count * partCount
        }
        guard start == slices.count else { return nil }
        let period =
            (1...max(1, sizes.count)).first { period in
                sizes.count % period == 0 && sizes.indices.allSatisfy { sizes[$0] == sizes[$0 % period] }
            } ?? sizes.count
        return (Array(sizes.prefix(period)), sizes.count / max(1, period))
    }

    /// A hash of each slice across the dimension.
    private func hashes(_ reader: any CheckpointReader) throws(CairnError) -> [Int] {
        let description = try reader.description(of: name)
        let source = ReaderView(reader, description)
        let whole = Region(whole: description.shape)
        var hashes: [Int] = []
        for slice in 0..<min(description.shape[dimension], Self.greatestSliceCount + 1) {
            hashes.append(try source.bytes(of: whole.replacing(dimension, offset: slice, extent: 1)).hashValue)
        }
        return hashes
    }
}
