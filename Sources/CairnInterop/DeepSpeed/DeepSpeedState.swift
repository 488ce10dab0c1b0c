import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor

/// A parameter of a model: its name and the shape that one model rank has of it.
struct DeepSpeedParameter: Sendable {
    var name: String
    var shape: Shape
}

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

    func tensor(at path: [StateKey]) -> (any TensorContent)? { tensors[path] }

    func value(at path: [StateKey]) -> Value? { values[path] }

    func integer(_ path: StateKey...) -> Int? { integer(at: path) }

    func integer(at path: [StateKey]) -> Int? {
        guard case .integer(let value)? = values[path] else { return nil }
        return Int(value)
    }

    /// The integers of a list, from its beginning.
    func integers(_ path: StateKey...) -> [Int] { integers(at: path) }

    func integers(at path: [StateKey]) -> [Int] {
        var found: [Int] = []
        while let value = integer(at: path + [.index(found.count)]) { found.append(value) }
        return found
    }

    /// The texts of a list.
    func texts(_ path: StateKey...) -> [String] {
        var found: [String] = []
        while case .string(let text)? = values[path + [.index(found.count)]] { found.append(text) }
        return found
    }

    /// A number that is a value or a tensor of one element.
    func number(at path: [StateKey]) throws(CairnError) -> Value? {
        switch values[path] {
        case .integer(let value)?: return .double(Double(value))
        case .double(let value)?: return .double(value)
        default: break
        }
        guard let tensor = tensors[path], tensor.shape.elementCount == 1, let width = tensor.scalarType.byteWidth
        else { return nil }
        var bytes = [UInt8](repeating: 0, count: width)
        var span = bytes.mutableSpan
        var raw = span.mutableBytes
        try tensor.read(Region(whole: tensor.shape), into: &raw)
        let bits = bytes.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        return switch tensor.scalarType {
        case .f32: .double(Double(Float(bitPattern: UInt32(bits))))
        case .f64: .double(Double(bitPattern: bits))
        case .i64: .double(Double(Int64(bitPattern: bits)))
        case .i32: .double(Double(Int32(truncatingIfNeeded: bits)))
        default: nil
        }
    }

    /// The parameters with their shapes by groups, in the order of the flat buffers.
    ///
    /// - Throws: ``CairnError/Code/malformed`` for shapes that are none.
    func parameterShapes() throws(CairnError) -> [[DeepSpeedParameter]] {
        var groups: [[DeepSpeedParameter]] = []
        for (path, value) in contents.values where path.first == "param_shapes" {
            // Early versions have one dictionary instead of a list of them.
            let (group, name): (Int, StateKey)
            switch path.count {
            case 2: (group, name) = (0, path[1])
            case 3:
                guard case .index(let index) = path[1] else { continue }
                (group, name) = (index, path[2])
            default: continue
            }
            guard case .name(let text) = name, case .list(let extents) = value,
                group == groups.count || group == groups.count - 1
            else { continue }
            if group == groups.count { groups.append([]) }
            let parameter = try DeepSpeedParameter(name: text, shape: shape(extents, of: text))
            groups[group].append(parameter)
        }
        return groups
    }

    /// The parameters that are not trained, with their shapes.
    func frozenShapes() throws(CairnError) -> [DeepSpeedParameter] {
        var parameters: [DeepSpeedParameter] = []
        for (path, value) in contents.values where path.count == 2 && path[0] == "frozen_param_shapes" {
            guard case .name(let name) = path[1], case .list(let extents) = value else { continue }
            parameters.append(
                DeepSpeedParameter(name: name, shape: try shape(extents, of: name)))
        }
        return parameters
    }

    private func shape(_ extents: [Value], of name: String) throws(CairnError) -> Shape {
        var sizes: [Int] = []
        for extent in extents {
            guard case .integer(let size) = extent else {
                throw CairnError(.malformed, "a shape is no list of integers", .init(file: file, tensor: name))
            }
            sizes.append(Int(size))
        }
        return try Shape(checking: sizes)
    }
}
