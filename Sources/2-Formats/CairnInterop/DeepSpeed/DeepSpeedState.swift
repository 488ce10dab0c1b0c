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
    private var tensors: [[StateKey]: any TensorView] = [:]
    private var values: [[StateKey]: Value] = [:]

    init(_ storage: any Storage, _ key: String) throws(CairnError) {
        file = storage.location(of: key)
        contents = try TorchContents(FileWindow(storage, key))
        for tensor in contents.tensors { tensors[tensor.path] = tensor.content }
        for (path, value) in contents.leaves { values[path] = value }
    }

    func tensor(_ path: StateKey...) -> (any TensorView)? { tensors[path] }

    func tensor(at path: [StateKey]) -> (any TensorView)? { tensors[path] }

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

    /// A number: an integer as it is, a tensor of one element as a double.
    func number(at path: [StateKey]) throws(CairnError) -> Value? {
        switch values[path] {
        case .integer(let value)?: return .integer(value)
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
    /// - Throws: ``CairnError/Code/malformed`` for invalid shapes.
    func parameterShapes() throws(CairnError) -> [[DeepSpeedParameter]] {
        // Early versions have one dictionary instead of a list of them.
        var groups: [[DeepSpeedParameter]] = []
        while true {
            let group = try shapes(under: ["param_shapes", .index(groups.count)])
            if group.isEmpty { break }
            groups.append(group)
        }
        if !groups.isEmpty { return groups }
        let only = try shapes(under: ["param_shapes"])
        return only.isEmpty ? [] : [only]
    }

    /// The parameters that are not trained, with their shapes.
    func frozenShapes() throws(CairnError) -> [DeepSpeedParameter] { try shapes(under: ["frozen_param_shapes"]) }

    /// The shapes of a dictionary of names: sizes of PyTorch, or plain tuples.
    private func shapes(under root: [StateKey]) throws(CairnError) -> [DeepSpeedParameter] {
        var parameters: [DeepSpeedParameter] = []
        for (path, value) in contents.leaves where path.count > root.count && path.starts(with: root) {
            guard case .name(let name) = path[root.count] else { continue }
            switch (path.count - root.count, value) {
            case (1, .list(let extents)):
                parameters.append(.init(name: name, shape: try shape(extents, of: name)))
            case (2, .integer) where path.last == .index(0):
                let extents = integers(at: Array(path.dropLast())).map { Value.integer(Int64($0)) }
                parameters.append(.init(name: name, shape: try shape(extents, of: name)))
            default: continue
            }
        }
        return parameters
    }

    private func shape(_ extents: [Value], of name: String) throws(CairnError) -> Shape {
        var sizes: [Int] = []
        for extent in extents {
            guard case .integer(let size) = extent else {
                throw CairnError(.malformed, "a shape is not a list of integers", .init(file: file, tensor: name))
            }
            sizes.append(Int(size))
        }
        return try Shape(checking: sizes)
    }
}

/// The `module` of a model file: weights, buffers, and which weight is another one under a second name.
struct DeepSpeedModule {
    /// The weights that are no copies, in the order of the file.
    private(set) var weights: [(name: String, content: any TensorView)] = []
    private(set) var buffers: [(name: String, content: any TensorView)] = []
    /// Names of weights and the names of those that they are.
    private(set) var shared: [(name: String, kept: String)] = []

    init(_ model: DeepSpeedState) {
        let bufferNames = Set(model.texts("buffer_names").map { ExactString($0) })
        var kept: [ExactString: String] = [:]
        for (path, value) in model.contents.leaves where path.count == 2 && path[0] == "shared_params" {
            guard case .string(let target) = value else { continue }
            kept[ExactString(path[1].text)] = target
            shared.append((path[1].text, target))
        }
        var first: [TorchView: String] = [:]
        for tensor in model.contents.tensors where tensor.path.first == "module" && tensor.path.count > 1 {
            let name = StateNames.joined(Array(tensor.path.dropFirst()))
            if bufferNames.contains(ExactString(name)) {
                buffers.append((name, tensor.content))
                continue
            }
            guard kept[ExactString(name)] == nil else { continue }
            if let view = tensor.view, view.shape.elementCount > 0 {
                if let original = first[view] {
                    shared.append((name, original))
                    continue
                }
                first[view] = name
            }
            weights.append((name, tensor.content))
        }
    }

    /// The shared weights as a value.
    var sharedValue: Value {
        .dictionary(Dictionary(shared.map { ($0.name, .string($0.kept)) }, uniquingKeysWith: { first, _ in first }))
    }
}
