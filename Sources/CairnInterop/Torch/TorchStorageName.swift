import CairnBase
import CairnTensor

/// How a pickle of PyTorch names a storage: `("storage", type, key, location, count)`, and in files of before 2019 a
/// sixth part that makes it a piece of the storage: `(key, first element, count)`.
struct TorchStorageName {
    var key: String
    /// The type of its elements; ``ScalarType/u8`` where they are bytes of any type.
    var scalarType: ScalarType
    /// PyTorch's name of the storage's class.
    var className: String
    /// The size of the whole storage in bytes.
    var byteCount: Int
    /// Where the piece begins, in elements.
    var offset = 0
    /// The piece's elements.
    var count: Int

    init?(_ identification: PickleGraph.Reference, in graph: PickleGraph) {
        if let text = graph.string(identification) {
            guard let spelt = Self.spelt(text) else { return nil }
            self = spelt
            return
        }
        guard let parts = graph.sequence(identification), parts.count >= 5, graph.string(parts[0]) == "storage",
            let global = graph.global(parts[1]), let type = TorchTypes.storageType(global),
            let key = graph.string(parts[2]), let count = graph.integer(parts[4]), count >= 0,
            let byteCount = count.multiplied(checked: type.byteWidth ?? 1)
        else { return nil }
        self.key = key
        scalarType = type
        className = global.name
        self.byteCount = byteCount
        self.count = count
        if parts.count > 5, let piece = graph.sequence(parts[5]) {
            guard piece.count == 3, let first = graph.integer(piece[1]), let size = graph.integer(piece[2]),
                first >= 0, size >= 0, first.adding(checked: size).map({ $0 <= count }) == true
            else { return nil }
            offset = first
            self.count = size
        }
    }

    /// In protocol 0 the identification is text, as Python's `repr` has it:
    /// `('storage', <class 'torch.FloatStorage'>, '0', 'cpu', 2)`.
    private static func spelt(_ text: String) -> TorchStorageName? {
        guard text.hasPrefix("("), text.hasSuffix(")") else { return nil }
        var parts: [String] = []
        for part in text.dropFirst().dropLast().split(separator: ",") {
            parts.append(String(part.drop { $0 == " " }))
        }
        func unquoted(_ part: String) -> String? {
            guard part.utf8.count >= 2, part.first == "'", part.last == "'" else { return nil }
            return String(part.dropFirst().dropLast())
        }
        guard parts.count == 5 || parts.count == 6 && parts[5] == "None", unquoted(parts[0]) == "storage",
            parts[1].hasPrefix("<class "), parts[1].hasSuffix(">"),
            let path = unquoted(String(parts[1].dropFirst("<class ".count).dropLast())),
            let dot = path.lastIndex(of: "."), let key = unquoted(parts[2]), let count = Int(parts[4]), count >= 0
        else { return nil }
        let global = PickleGraph.Global(module: String(path[..<dot]), name: String(path[path.index(after: dot)...]))
        guard let type = TorchTypes.storageType(global),
            let byteCount = count.multiplied(checked: type.byteWidth ?? 1)
        else { return nil }
        return TorchStorageName(
            key: key, scalarType: type, className: global.name, byteCount: byteCount, count: count)
    }

    private init(key: String, scalarType: ScalarType, className: String, byteCount: Int, count: Int) {
        self.key = key
        self.scalarType = scalarType
        self.className = className
        self.byteCount = byteCount
        self.count = count
    }
}
