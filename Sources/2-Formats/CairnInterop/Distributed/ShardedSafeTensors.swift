import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor

/// Shards that torch.distributed.checkpoint writes as safetensors: every file says of each of its tensors where in the
/// whole it begins. The whole's shape stands nowhere: it is as large as the shards reach, so a lost last shard cannot
/// be noticed, but for those that ``ShardedSafeTensorsWriter`` wrote, which say how many they are.
///
/// Source: `torch/distributed/checkpoint/hf_storage.py` and `_hf_utils.py` of PyTorch 2.15.
enum ShardedSafeTensors {
    static let informationKey = "DCP_SHARDING_INFO"
    static let versionKey = "DCP_VERSION"
    /// How many files there are; PyTorch does not look at it.
    static let fileCountKey = "cairn.files"

    /// The name of a shard's file, counted from 1.
    static func fileName(shard: Int) -> String {
        let digits = String(shard)
        return "shard-" + String(repeating: "0", count: max(0, 5 - digits.utf8.count)) + digits
            + "-model-00001-of-00001.safetensors"
    }

    /// What the shards hold together.
    struct Contents {
        var tensors: [(name: String, content: AssembledTensor)] = []
        /// Values and ties where ``ShardedSafeTensorsWriter`` wrote the shards.
        var values: [NamedValue] = []
        var ties: [(name: String, kept: String)] = []
    }

    static func contents(
        of keys: [String], in storage: any Storage
    ) throws(CairnError) -> Contents {
        var contents = Contents()
        var pieces: [ExactString: [(content: FileTensor, piece: AssembledTensor.Piece)]] = [:]
        for key in keys {
            let file = try FileWindow(storage, key)
            let header = try SafeTensorsHeader.read(from: file)
            let offsets = try offsets(in: header, file: file.key)
            if let count = header.metadata(fileCountKey), count != String(keys.count) {
                throw CairnError(
                    .incomplete, "a shard of the checkpoint is missing, or one of another is there",
                    .init(file: file.key, expected: "\(count) files", found: "\(keys.count)"))
            }
            let notes = try SafeTensorsNotes(readingFrom: header, file: file.key)
            contents.values += notes.values
            contents.ties += notes.ties
            for entry in header.entries {
                guard var begin = offsets[ExactString(entry.name)],
                    begin.count == entry.shape.dimensionCount || entry.scalarType == .f4
                else {
                    throw CairnError(
                        .malformed, "a shard does not say where its tensor begins",
                        .init(file: file.key, tensor: entry.name))
                }
                // PyTorch counts packed elements in pairs.
                if entry.scalarType == .f4, let last = begin.popLast() {
                    begin.append(last.multiplied(checked: 2) ?? -1)
                }
                let region: Region
                do throws(CairnError) {
                    region = try Region(offsets: begin, shape: entry.shape)
                } catch {
                    throw error.adding(.init(file: file.key, tensor: entry.name))
                }
                let stored = FileTensor(
                    file: file, byteOffset: header.dataStart + entry.byteRange.lowerBound,
                    scalarType: entry.scalarType, shape: entry.shape)
                let piece = AssembledTensor.Piece(
                    region: region, file: key, open: { stored }, location: .init(file: key, offset: 0, byteCount: 0))
                pieces[ExactString(entry.name), default: []].append((stored, piece))
            }
        }
        for (name, parts) in pieces {
            contents.tensors.append((name.string, try assembled(parts, name: name.string)))
        }
        return contents
    }

    private static func assembled(
        _ parts: [(content: FileTensor, piece: AssembledTensor.Piece)], name: String
    ) throws(CairnError) -> AssembledTensor {
        guard let first = parts.first else { throw CairnError(.notFound, "no shard", .init(tensor: name)) }
        var extents = first.piece.region.shape.extents
        for part in parts {
            let region = part.piece.region
            guard part.content.scalarType == first.content.scalarType, region.offsets.count == extents.count else {
                throw CairnError(
                    .mismatch, "the shards of a tensor differ in type or dimensions",
                    .init(
                        file: part.piece.file, tensor: name,
                        expected: "\(first.content.scalarType), \(extents.count) dimensions",
                        found: "\(part.content.scalarType), \(region.offsets.count) dimensions"))
            }
            for index in extents.indices {
                extents[index] = max(extents[index], region.offsets[index] + region.shape[index])
            }
        }
        do throws(CairnError) {
            let shape = try Shape(checking: extents)
            var seen: Set<Region> = []
            let solid = parts.map(\.piece).filter { $0.region.elementCount > 0 && seen.insert($0.region).inserted }
            try FragmentCoverage.check(solid.map(\.region), of: shape)
            return AssembledTensor(scalarType: first.content.scalarType, shape: shape, pieces: solid)
        } catch {
            throw error.adding(.init(file: first.piece.file, tensor: name))
        }
    }

    static func offsets(
        in header: SafeTensorsHeader, file: String
    ) throws(CairnError) -> [ExactString: [Int]] {
        guard let text = header.metadata(informationKey) else {
            throw CairnError(
                .malformed, "the file does not say which shards it holds",
                .init(file: file, expected: informationKey, advice: "open the file by itself"))
        }
        do throws(JSONError) {
            var offsets: [ExactString: [Int]] = [:]
            for member in try JSONValue(parsing: text).asObject().members {
                var begin: [Int] = []
                for offset in try member.value.asObject().array("saved_offsets") {
                    begin.append(try offset.asInteger())
                }
                offsets[ExactString(member.key)] = begin
            }
            return offsets
        } catch {
            throw CairnError(.malformed, "the metadata \"\(informationKey)\": \(error)", .init(file: file))
        }
    }
}

/// How a tensor is sharded over several files: along its first dimension, as fully sharded training does it, so that
/// each part is a run of the tensor's bytes.
struct FileSharding {
    /// A part of a tensor and the file that it goes to.
    struct Part {
        var region: Region
        var file: Int
        var byteCount: Int
    }

    /// The parts in the order of the tensor's bytes; those without elements are left out.
    let parts: [Part]

    /// - Parameter fileCount: How many files there are, at least one. A tensor that cannot be sharded goes to one of them.
    init(_ tensor: TensorDescription, fileCount: Int, whole: Int) throws(CairnError) {
        guard tensor.shape.elementCount > 0 else {
            parts = []
            return
        }
        guard let rows = tensor.shape.extents.first, fileCount > 1 else {
            parts = [Part(region: Region(whole: tensor.shape), file: whole, byteCount: tensor.byteCount)]
            return
        }
        // As many rows as ranks of torch get; of packed elements as many as fill whole bytes.
        var height = (rows + fileCount - 1) / fileCount
        let rowBits = tensor.shape.elementCount / rows * tensor.scalarType.bitWidth
        if rowBits % 8 != 0 { height = (height + 7) / 8 * 8 }
        var parts: [Part] = []
        for begin in stride(from: 0, to: rows, by: height) {
            let extents = [min(height, rows - begin)] + tensor.shape.extents.dropFirst()
            let offsets = [begin] + [Int](repeating: 0, count: extents.count - 1)
            let region = try Region(offsets: offsets, shape: Shape(checking: extents))
            parts.append(
                Part(
                    region: region, file: parts.count,
                    byteCount: tensor.scalarType.byteCount(elementCount: region.elementCount) ?? 0))
        }
        self.parts = parts
    }
}
