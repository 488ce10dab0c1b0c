import CairnBase
import CairnCheckpoint
import CairnTensor

/// What Python has beyond plain values, as far as `torch.load` with `weights_only` takes it. What it does not take is written
/// as the plain node that stands for it; ``StateLosses`` says so.
extension StatePickle {
    private static let builtins = "__builtin__"

    mutating func write(_ node: StateNode, of kind: StateKind, isElement: Bool) throws(CairnError) {
        switch (kind, node) {
        // A set in a set must not change, and only tuples are known that do not.
        case (.set, .list(let elements)) where isElement, (.frozenSet, .list(let elements)) where isElement:
            try write(.tuple(elements), isElement: true)
        case (.set, .list(let elements)), (.frozenSet, .list(let elements)):
            writer.global(Self.builtins, "set")
            writer.mark()
            writer.emptyList()
            writer.mark()
            for element in elements { try write(element, isElement: true) }
            writer.appendAll()
            call()
        case (.orderedDictionary, .dictionary(let members)):
            orderedDictionary()
            try setMembers(members)
        case (.counter, .dictionary):
            writer.global("collections", "Counter")
            writer.mark()
            try write(node)
            call()
        case (.byteArray, .value(.bytes(let bytes))):
            writer.global(Self.builtins, "bytearray")
            writer.mark()
            try writer.bytes(bytes)
            call()
        case (.complex, .value(.list(let parts))):
            writer.global(Self.builtins, "complex")
            writer.mark()
            for part in parts { try writer.value(part) }
            call()
        case (.bigInteger, .value(.string(let digits))):
            guard let bytes = PythonInteger.bytes(digits) else { return try write(node) }
            try writer.integer(littleEndian: bytes)
        case (.size, .value(.list(let sizes))):
            writer.global("torch", "Size")
            writer.mark()
            writer.mark()
            for size in sizes { try writer.value(size) }
            writer.tuple()
            call()
        case (.scalarType, .value(.string(let path))):
            guard let name = Self.constant(path) else { return try write(node) }
            writer.global("torch", name)
        case (.layout, .value(.string(let name))): try layout(name)
        case (.device, .value(.string(let name))):
            writer.global("torch", "device")
            writer.mark()
            try writer.string(name)
            call()
        case (.parameter(let requiresGradient), .tensor(let name)):
            writer.global("torch._utils", "_rebuild_parameter")
            writer.mark()
            try write(tensor: name)
            writer.bool(requiresGradient)
            orderedDictionary()
            call()
        case (.gradient, .tensor(let name)): try write(tensor: name, requiresGradient: true)
        case (.sparseTensor, .dictionary(let members)):
            if try !writeSparse(members) { try write(node) }
        case (.quantizedTensor, .dictionary(let members)):
            if try !writeQuantized(members) { try write(node) }
        case (.metaTensor, .dictionary(let members)):
            if try !writeMeta(members) { try write(node) }
        default: try write(node, isElement: isElement)
        }
    }

    /// Calls what is below the last mark with what is above it.
    private mutating func call() {
        writer.tuple()
        writer.reduce()
    }

    private mutating func layout(_ name: String) throws(CairnError) {
        writer.global("torch.serialization", "_get_layout")
        writer.mark()
        try writer.string(name)
        call()
    }

    /// `float32` for `torch.float32`, if PyTorch has that.
    private static func constant(_ path: String) -> String? {
        guard path.hasPrefix("torch.") else { return nil }
        let name = String(path.dropFirst("torch.".count))
        return TorchTypes.isConstant(name) ? name : nil
    }

    // MARK: Tensors of parts

    private static func text(_ key: String, _ members: [StateNode.Member]) -> String? {
        guard case .value(.string(let text))? = node(key, members) else { return nil }
        return text
    }

    private static func node(_ key: String, _ members: [StateNode.Member]) -> StateNode? {
        members.first { $0.key == StateKey(key) }?.node
    }

    /// The integers of a list.
    private static func integers(_ key: String, _ members: [StateNode.Member]) -> [Int]? {
        guard case .value(.list(let values))? = node(key, members) else { return nil }
        let numbers = values.compactMap { $0.signedInteger.map { Int($0) } }
        return numbers.count == values.count ? numbers : nil
    }

    /// - Returns: Whether the parts are those of a sparse tensor; nothing is written otherwise.
    private mutating func writeSparse(_ members: [StateNode.Member]) throws(CairnError) -> Bool {
        guard let layout = Self.text("layout", members), let size = Self.integers("shape", members) else { return false }
        let pairs = [("indices", "values"), ("crow_indices", "col_indices"), ("ccol_indices", "row_indices")]
        guard let names = pairs.first(where: { Self.node($0.0, members) != nil }),
            let first = Self.node(names.0, members), let second = Self.node(names.1, members)
        else { return false }
        let values = names.1 == "values" ? nil : Self.node("values", members)
        guard names.1 == "values" || values != nil else { return false }
        writer.global("torch._utils", "_rebuild_sparse_tensor")
        writer.mark()
        try self.layout(layout)
        writer.mark()
        for part in [first, second, values] { if let part { try write(part) } }
        writer.global("torch", "Size")
        writer.mark()
        writer.tuple(size)
        call()
        if case .value(.bool(let isCoalesced))? = Self.node("is_coalesced", members) { writer.bool(isCoalesced) }
        writer.tuple()
        call()
        return true
    }

    /// - Returns: Whether the parts are those of a quantized tensor; nothing is written otherwise.
    private mutating func writeQuantized(_ members: [StateNode.Member]) throws(CairnError) -> Bool {
        guard case .tensor(let name)? = Self.node("int_repr", members),
            let scheme = Self.text("qscheme", members).flatMap(Self.constant)
        else { return false }
        let tensor = try stored(name)
        let storageClass: String
        switch tensor.description.scalarType {
        case .i8: storageClass = "QInt8Storage"
        case .u8: storageClass = "QUInt8Storage"
        case .i32: storageClass = "QInt32Storage"
        default: return false
        }
        let parameters = [["scale", "zero_point"], ["scales", "zero_points", "axis"]].map { keys in
            keys.compactMap { Self.node($0, members) }
        }
        guard let found = parameters.first(where: { !$0.isEmpty }), parameters.contains(where: { $0.count == found.count })
        else { return false }
        writer.global("torch._utils", "_rebuild_qtensor")
        writer.mark()
        try writeStorage(of: tensor, named: storageClass)
        writer.integer(0)
        writer.tuple(tensor.description.shape.extents)
        writer.tuple(Self.strides(tensor.description.shape.extents))
        writer.mark()
        writer.global("torch", scheme)
        for node in found { try write(node) }
        writer.tuple()
        writer.bool(false)
        orderedDictionary()
        call()
        return true
    }

    /// - Returns: Whether the parts are those of a tensor of the device `meta`; nothing is written otherwise.
    private mutating func writeMeta(_ members: [StateNode.Member]) throws(CairnError) -> Bool {
        guard let type = Self.text("dtype", members).flatMap(Self.constant), let size = Self.integers("shape", members),
            let strides = Self.integers("stride", members)
        else { return false }
        writer.global("torch._utils", "_rebuild_meta_tensor_no_storage")
        writer.mark()
        writer.global("torch", type)
        writer.tuple(size)
        writer.tuple(strides)
        writer.bool(false)
        call()
        return true
    }
}
