import CairnBase
import CairnCheckpoint
import CairnTensor

/// The `.metadata` file of torch.distributed.checkpoint, as PyTorch 2.1 and all later versions read it.
///
/// Three choices make that so: what came later and has a default (`storage_meta`) is left out or None; the properties of
/// tensors are of the class that 2.1 has (`torch.distributed._shard.sharded_tensor.metadata`), which is there still, with
/// a state of five parts; the pickle has protocol 2.
struct MetadataPickle {
    typealias Location = DistributedMetadata.Location

    struct Tensor {
        var name: String
        var path: [StateKey]
        var description: TensorDescription
        var pieces: [(region: Region, location: Location)]
    }

    struct Object {
        var name: String
        var path: [StateKey]
        var location: Location
    }

    private static let module = "torch.distributed.checkpoint.metadata"
    private static let oldModule = "torch.distributed._shard.sharded_tensor.metadata"
    private static let version = "1.0.0"

    private var writer = PickleWriter()

    static func bytes(_ tensors: [Tensor], _ objects: [Object]) throws(CairnError) -> [UInt8] {
        var pickle = MetadataPickle()
        try pickle.write(tensors, objects)
        return pickle.writer.finish()
    }

    private mutating func write(_ tensors: [Tensor], _ objects: [Object]) throws(CairnError) {
        begin(Self.module, "Metadata")
        try writer.string("state_dict_metadata")
        writer.emptyDictionary()
        writer.mark()
        for tensor in tensors {
            try writer.string(tensor.name)
            try write(tensor)
        }
        for object in objects {
            try writer.string(object.name)
            writer.global(Self.module, "BytesStorageMetadata")
            writer.emptyTuple()
            writer.newObject()
        }
        writer.setAll()
        try writer.string("planner_data")
        writer.emptyDictionary()
        writer.mark()
        for (name, path) in tensors.map({ ($0.name, $0.path) }) + objects.map({ ($0.name, $0.path) }) {
            try writer.string(name)
            try write(path)
        }
        writer.setAll()
        try writer.string("storage_data")
        writer.emptyDictionary()
        writer.mark()
        for tensor in tensors {
            for (index, piece) in tensor.pieces.enumerated() {
                let offsets = try Self.counts(piece.region.offsets, tensor.description)
                try writeIndex(tensor.name, offsets, index)
                try write(piece.location)
            }
        }
        for object in objects {
            try writeIndex(object.name, nil, nil)
            try write(object.location)
        }
        writer.setAll()
        try writer.string("storage_meta")
        writer.none()
        try writer.string("version")
        try writer.string(Self.version)
        end()
    }

    /// An object of a data class, whose fields then come as keys and values.
    private mutating func begin(_ module: String, _ name: String) {
        writer.global(module, name)
        writer.emptyTuple()
        writer.newObject()
        writer.emptyDictionary()
        writer.mark()
    }

    private mutating func end() {
        writer.setAll()
        writer.build()
    }

    private mutating func write(_ tensor: Tensor) throws(CairnError) {
        guard let type = TorchTypes.name(of: tensor.description.scalarType) else {
            throw CairnError(
                .unsupported, "PyTorch has no such element type",
                .init(
                    tensor: tensor.name, found: "\(tensor.description.scalarType)",
                    advice: "leave the tensor out or convert it"))
        }
        begin(Self.module, "TensorStorageMetadata")
        try writer.string("properties")
        writer.global(Self.oldModule, "TensorProperties")
        writer.emptyTuple()
        writer.newObject()
        writer.mark()
        writer.global("torch", type)
        writer.global("torch.serialization", "_get_layout")
        writer.mark()
        try writer.string("torch.strided")
        writer.tuple()
        writer.reduce()
        writer.bool(false)
        writer.global(Self.oldModule, "MEM_FORMAT_ENCODING")
        writer.tuple([0])
        writer.reduce()
        writer.bool(false)
        writer.tuple()
        writer.build()
        try writer.string("size")
        size(try TorchTypes.extents(of: tensor.description))
        try writer.string("chunks")
        writer.emptyList()
        writer.mark()
        for piece in tensor.pieces {
            begin(Self.module, "ChunkStorageMetadata")
            try writer.string("offsets")
            size(try Self.counts(piece.region.offsets, tensor.description))
            try writer.string("sizes")
            size(try Self.counts(piece.region.shape.extents, tensor.description))
            end()
        }
        writer.appendAll()
        end()
    }

    /// PyTorch counts packed elements in pairs.
    private static func counts(_ counts: [Int], _ tensor: TensorDescription) throws(CairnError) -> [Int] {
        guard tensor.scalarType == .f4, let last = counts.last else { return counts }
        guard last.isMultiple(of: 2) else {
            throw CairnError(.unsupported, "packed elements are cut within a byte", .init(tensor: tensor.name))
        }
        return counts.dropLast() + [last / 2]
    }

    private mutating func size(_ extents: [Int]) {
        writer.global("torch", "Size")
        writer.mark()
        writer.tuple(extents)
        writer.tuple()
        writer.reduce()
    }

    private mutating func write(_ path: [StateKey]) throws(CairnError) {
        writer.mark()
        for key in path {
            switch key {
            case .name(let name): try writer.string(name)
            case .index(let index): writer.integer(index)
            case .value: try writer.string(key.text)
            }
        }
        writer.tuple()
    }

    private mutating func writeIndex(_ name: String, _ offsets: [Int]?, _ index: Int?) throws(CairnError) {
        begin(Self.module, "MetadataIndex")
        try writer.string("fqn")
        try writer.string(name)
        if let offsets {
            try writer.string("offset")
            size(offsets)
        }
        try writer.string("index")
        if let index { writer.integer(index) } else { writer.none() }
        end()
    }

    private mutating func write(_ location: Location) throws(CairnError) {
        begin("torch.distributed.checkpoint.filesystem", "_StorageInfo")
        try writer.string("relative_path")
        try writer.string(location.file)
        try writer.string("offset")
        writer.integer(location.offset)
        try writer.string("length")
        writer.integer(location.byteCount)
        end()
    }
}
