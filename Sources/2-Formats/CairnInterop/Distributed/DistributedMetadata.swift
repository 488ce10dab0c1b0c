import CairnBase
import CairnCheckpoint
import CairnTensor

/// What the `.metadata` file of torch.distributed.checkpoint says: which tensors and objects there are, and where.
///
/// Source: `torch/distributed/checkpoint/metadata.py` and `filesystem.py` of PyTorch 2.15, and files of older versions.
struct DistributedMetadata {
    /// Where an item is.
    struct Location: Hashable {
        /// The file, relative to the checkpoint.
        var file: String
        /// The item's first byte in it.
        var offset: Int
        /// The item's length in bytes.
        var byteCount: Int
        /// What was done to its bytes, as `stream.zstd/1`, in the order in which it is undone.
        var transforms: [String] = []
    }

    struct Tensor {
        var name: String
        var scalarType: ScalarType
        var shape: Shape
        /// The boxes that make up the tensor, each with its item; those without elements are left out.
        var pieces: [(region: Region, location: Location)]
    }

    var tensors: [Tensor] = []
    /// Everything else, as pickles.
    var objects: [(name: String, location: Location)] = []
    /// The same objects as other ranks saved them, where every rank wrote metadata of its own.
    var copies: [(name: String, location: Location)] = []
    /// For names that were made by flattening, the keys they were made of.
    var paths: [ExactString: [StateKey]] = [:]

    private static let mostFields = 64
    private static let mostDimensions = 64
    private static let mostTransforms = 4

    private let graph: PickleGraph
    private let file: String
    /// Where the items of each name are, by their offsets.
    private var locations: [ExactString: [[Int]: Location]] = [:]
    /// How many steps of paths and chunks were read.
    private var cost = 0

    /// - Throws: ``CairnError/Code/malformed`` or ``CairnError/Code/unsupported``, naming the file and the tensor.
    init(_ bytes: [UInt8], file: String) throws(CairnError) {
        self.file = file
        graph = try PickleInterpreter.read(bytes, file: file)
        guard let root = graph.object(graph.root), ["Metadata", "MCoreMetadata"].contains(root.constructor.name),
            let state = root.state, let entries = graph.value("state_dict_metadata", of: state),
            case .dictionary(let items) = graph[entries]
        else {
            throw CairnError(
                .malformed, "this is not metadata of torch.distributed.checkpoint",
                .init(file: file, expected: "an object of the class Metadata"))
        }
        try readPlaces(state)
        try readPaths(state)
        for index in stride(from: 0, to: items.count - 1, by: 2) {
            guard let name = graph.string(items[index]), let entry = graph.object(items[index + 1]) else {
                throw malformed("an entry has no name or is not an object", nil)
            }
            do throws(CairnError) {
                try readEntry(name, entry)
            } catch {
                throw error.adding(.init(file: file, tensor: name))
            }
        }
    }

    private mutating func readPlaces(_ state: PickleGraph.Reference) throws(CairnError) {
        guard let storage = graph.value("storage_data", of: state), case .dictionary(let items) = graph[storage]
        else { throw malformed("there is no storage_data", nil) }
        for index in stride(from: 0, to: items.count - 1, by: 2) {
            guard let key = graph.object(items[index])?.state, let info = graph.object(items[index + 1])?.state,
                let name = field("fqn", of: key).flatMap({ graph.string($0) }),
                let path = field("relative_path", of: info).flatMap({ graph.string($0) }),
                let offset = field("offset", of: info).flatMap({ graph.integer($0) }), offset >= 0,
                let byteCount = field("length", of: info).flatMap({ graph.integer($0) }), byteCount >= 0
            else { throw malformed("the place of an item is not described", nil) }
            let steps = field("transform_descriptors", of: info).flatMap { graph.sequence($0) } ?? []
            guard steps.count <= Self.mostTransforms else { throw malformed("an item is transformed too often", name) }
            let transforms = steps.map { PythonText(graph).plain($0) }
            guard transforms.allSatisfy({ $0 == DistributedFiles.zstd }) else {
                throw CairnError(
                    .unsupported, "the items are transformed in a way that is not read",
                    .init(file: file, tensor: name, expected: DistributedFiles.zstd, found: "\(transforms)"))
            }
            let offsets = field("offset", of: key).flatMap { extents($0) } ?? []
            locations[ExactString(name), default: [:]][offsets] = Location(
                file: path, offset: offset, byteCount: byteCount, transforms: transforms)
        }
    }

    private mutating func readPaths(_ state: PickleGraph.Reference) throws(CairnError) {
        guard let planner = graph.value("planner_data", of: state), case .dictionary(let items) = graph[planner]
        else { return }
        for index in stride(from: 0, to: items.count - 1, by: 2) {
            guard let name = graph.string(items[index]), let steps = graph.sequence(items[index + 1]) else { continue }
            guard steps.count <= NestedState.greatestDepth else {
                throw CairnError(.unsupported, "the state is nested too deeply", .init(file: file, tensor: name))
            }
            try spend(steps.count, name)
            var path: [StateKey] = []
            for step in steps {
                if let index = graph.integer(step) {
                    path.append(.index(index))
                } else {
                    path.append(StateKey(PythonText(graph).plain(step)))
                }
            }
            if !path.isEmpty { paths[ExactString(name)] = path }
        }
    }

    private mutating func readEntry(_ name: String, _ entry: PickleGraph.Object) throws(CairnError) {
        let held = locations[ExactString(name)] ?? [:]
        switch entry.constructor.name {
        case "BytesStorageMetadata":
            guard let location = held.values.first, held.count == 1 else {
                throw incomplete("the place of an object is not known", name)
            }
            objects.append((name, location))
        case "TensorStorageMetadata":
            guard let state = entry.state, let size = field("size", of: state).flatMap({ extents($0) }),
                let chunks = field("chunks", of: state).flatMap({ graph.sequence($0) }),
                let properties = field("properties", of: state)
            else { throw malformed("a tensor is not described", name) }
            try spend(chunks.count, name)
            guard let scalarType = elementType(properties) else {
                throw CairnError(.unsupported, "the type of a tensor's elements is unknown")
            }
            let shape = try Shape(checking: Self.elements(size, of: scalarType))
            guard scalarType.byteCount(elementCount: shape.elementCount) != nil else {
                throw malformed("a tensor's size is out of range", name)
            }
            var pieces: [(region: Region, location: Location)] = []
            var seen: Set<Region> = []
            for chunk in chunks {
                guard let state = graph.object(chunk)?.state,
                    let offsets = field("offsets", of: state).flatMap({ extents($0) }),
                    let sizes = field("sizes", of: state).flatMap({ extents($0) })
                else { throw malformed("a chunk of a tensor is not described", name) }
                let region = try Region(
                    offsets: Self.elements(offsets, of: scalarType),
                    shape: Shape(checking: Self.elements(sizes, of: scalarType)))
                // Ranks without a share list an empty chunk; replicas that were not told apart list theirs again.
                guard region.elementCount > 0, seen.insert(region).inserted else { continue }
                guard let location = held[offsets] else {
                    throw incomplete("the place of a chunk is not known: \(region)", name)
                }
                pieces.append((region, location))
            }
            tensors.append(Tensor(name: name, scalarType: scalarType, shape: shape, pieces: pieces))
        default:
            throw CairnError(
                .unsupported, "an entry is of an unknown kind", .init(found: entry.constructor.path))
        }
    }

    /// Adds what another rank wrote of its part.
    ///
    /// - Throws: ``CairnError/Code/mismatch`` when the two do not describe parts of one state.
    mutating func merge(_ other: DistributedMetadata) throws(CairnError) {
        var positions: [ExactString: Int] = [:]
        for (index, tensor) in tensors.enumerated() { positions[ExactString(tensor.name)] = index }
        for tensor in other.tensors {
            guard let position = positions[ExactString(tensor.name)] else {
                tensors.append(tensor)
                continue
            }
            guard tensors[position].scalarType == tensor.scalarType, tensors[position].shape == tensor.shape else {
                throw CairnError(
                    .mismatch, "two ranks have different tensors of one name",
                    .init(
                        file: other.file, tensor: tensor.name,
                        expected: "\(tensors[position].scalarType)\(tensors[position].shape)",
                        found: "\(tensor.scalarType)\(tensor.shape)"))
            }
            let known = Set(tensors[position].pieces.map(\.region))
            tensors[position].pieces += tensor.pieces.filter { !known.contains($0.region) }
        }
        let names = Set(objects.map { ExactString($0.name) })
        for object in other.objects {
            if names.contains(ExactString(object.name)) { copies.append(object) } else { objects.append(object) }
        }
        paths.merge(other.paths) { first, _ in first }
    }

    /// Throws unless the chunks of every tensor cover it exactly.
    func checkCoverage() throws(CairnError) {
        for tensor in tensors {
            do throws(CairnError) {
                try FragmentCoverage.check(tensor.pieces.map(\.region), of: tensor.shape)
            } catch {
                throw error.adding(.init(file: file, tensor: tensor.name))
            }
        }
    }

    /// PyTorch counts packed elements in pairs.
    private static func elements(_ counts: [Int], of scalarType: ScalarType) throws(CairnError) -> [Int] {
        guard scalarType == .f4 else { return counts }
        guard let doubled = (counts.last ?? 1).multiplied(checked: 2) else {
            throw CairnError(.malformed, "a size is out of range", .init(found: "\(counts)"))
        }
        return counts.dropLast() + [doubled]
    }

    /// The type of elements: the first field of the properties, which are a tuple, in some versions a dictionary.
    private func elementType(_ properties: PickleGraph.Reference) -> ScalarType? {
        guard let state = graph.object(properties)?.state else { return nil }
        let field = graph.sequence(state)?.first ?? self.field("dtype", of: state)
        return field.flatMap { TorchTypes.scalarType(graph.global($0)) }
    }

    /// A field of an object. One object's state may stand for many, so that it must not be long to look through.
    private func field(_ name: String, of state: PickleGraph.Reference) -> PickleGraph.Reference? {
        guard case .dictionary(let items) = graph[state], items.count <= 2 * Self.mostFields else { return nil }
        return graph.value(name, of: state)
    }

    /// A shape or a place in one; `nil` for too many dimensions, which PyTorch has 64 of.
    private func extents(_ reference: PickleGraph.Reference) -> [Int]? {
        let size = graph.object(reference).flatMap { $0.arguments.count == 1 ? $0.arguments[0] : nil } ?? reference
        guard graph.sequence(size).map({ $0.count <= Self.mostDimensions }) == true else { return nil }
        return graph.integers(reference)
    }

    /// Throws when more was read than the pickle can have room for, as it can only where parts stand for many.
    private mutating func spend(_ count: Int, _ name: String) throws(CairnError) {
        cost += count
        guard cost <= graph.byteCount else { throw malformed("the same chunks or paths come too often", name) }
    }

    private func malformed(_ message: String, _ name: String?) -> CairnError {
        CairnError(.malformed, "the metadata is not as PyTorch writes it: " + message, .init(file: file, tensor: name))
    }

    private func incomplete(_ message: String, _ name: String) -> CairnError {
        CairnError(.incomplete, message, .init(file: file, tensor: name))
    }
}
