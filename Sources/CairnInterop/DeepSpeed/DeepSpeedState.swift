import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor

/// One file of a DeepSpeed checkpoint, its parts by their paths.
struct DeepSpeedState {
    let contents: TorchContents
    let file: String
    private var tensors: [[StateKey]: any TensorContent] = [:]
    private var values: [[StateKey]: Value] = [:]

    init(_ storage: any Storage, _ key: String) throws(CairnError) {
        file = storage.place(of: key)
        contents = try TorchContents(FileWindow(storage, key))
        for tensor in contents.tensors { tensors[tensor.path] = tensor.content }
        for (path, value) in contents.values { values[path] = value }
    }

    func tensor(_ path: StateKey...) -> (any TensorContent)? { tensors[path] }

    func value(_ path: StateKey...) -> Value? { values[path] }

    func integer(_ path: StateKey...) -> Int? {
        guard case .integer(let value)? = values[path] else { return nil }
        return Int(value)
    }

    /// The texts of a list.
    func texts(_ name: String) -> [String] {
        contents.values.compactMap { path, value in
            guard path.count == 2, path[0] == StateKey(name), case .string(let text) = value else { return nil }
            return text
        }
    }

    /// The parameters with their shapes by groups, in the order of the flat buffers.
    func parameterShapes() throws(CairnError) -> [[(name: String, shape: Shape)]] {
        var groups: [[(name: String, shape: Shape)]] = []
        for (path, value) in contents.values where path.count == 3 && path[0] == StateKey("param_shapes") {
            guard case .index(let group) = path[1], case .name(let name) = path[2], case .list(let extents) = value,
                group == groups.count || group == groups.count - 1
            else { continue }
            var sizes: [Int] = []
            for extent in extents {
                guard case .integer(let size) = extent else {
                    throw CairnError(
                        .malformed, "a shape is no list of integers", .init(file: file, tensor: name))
                }
                sizes.append(Int(size))
            }
            if group == groups.count { groups.append([]) }
            groups[group].append((name, try Shape(checking: sizes)))
        }
        return groups
    }
}
