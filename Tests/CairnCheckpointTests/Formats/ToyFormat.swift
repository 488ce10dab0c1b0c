import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnStorage
import CairnTensor

// A format in one file: a line of text for each tensor, an empty line, and the elements. Its line in a list is all that
// recognition, opening, conversion and the checks of names need.

extension CheckpointFormat {
    /// Vectors of F32, one behind the other.
    static let toy = {
        var format = CheckpointFormat(
            name: "toy", title: "a toy", kinds: [.file],
            recognise: { contents throws(CairnError) in
                try contents.begins(with: ToyFormat.mark) ? Claim(contents.path) : nil
            },
            open: { path, _ in Opening(try ToyFormat.read(path)) })
        format.targets = [
            CheckpointTarget(
                name: "toy", summary: "a file of vectors", place: .file, writer: { path, _ in try ToyWriter(path: path) })
        ]
        return format
    }()
}

enum ToyFormat {
    static let mark = Array("TOY\n".utf8)

    static func read(_ path: String) throws -> MemoryCheckpoint {
        let (storage, key) = try LocalStorage.locate(path)
        let bytes = try storage.readAll(key)
        var checkpoint = MemoryCheckpoint(path)
        var rest = bytes.dropFirst(mark.count)
        var entries: [(name: String, count: Int)] = []
        while let end = rest.firstIndex(of: UInt8(ascii: "\n")), end > rest.startIndex {
            let parts = String(decoding: rest[..<end], as: UTF8.self).split(separator: " ")
            guard parts.count == 2, let count = Int(parts[1]), count >= 0 else {
                throw CairnError(.malformed, "a line is not a name and a count", .init(file: path))
            }
            entries.append((String(parts[0]), count))
            rest = rest[(end + 1)...]
        }
        rest = rest.dropFirst()
        for (name, count) in entries {
            guard rest.count / 4 >= count else { throw CairnError(.incomplete, "the file ends early", .init(file: path)) }
            let tensor = try Tensor(.f32, [count]) { destination in
                for index in 0..<count * 4 {
                    destination.storeBytes(of: rest[rest.startIndex + index], toByteOffset: index, as: UInt8.self)
                }
            }
            checkpoint.add(name, tensor)
            rest = rest.dropFirst(count * 4)
        }
        return checkpoint
    }
}

final class ToyWriter: TensorStreamWriter {
    var stream = TensorStream()
    let destination: String
    private let storage: LocalStorage
    private let key: String
    private var file: (any StorageWriter)?
    private var starts: [Int] = []
    private var end = 0

    init(path: String) throws(CairnError) {
        destination = path
        (storage, key) = try LocalStorage.locate(path)
    }

    func open(
        tensors: [TensorDescription], values: [NamedValue], structure: StateNode?
    ) throws -> TensorStream.Plan {
        if let other = tensors.first(where: { $0.scalarType != .f32 || $0.shape.dimensionCount != 1 }) {
            throw CairnError(.unsupported, "a toy holds vectors of F32", .init(file: destination, tensor: other.name))
        }
        let header =
            ToyFormat.mark
            + Array(tensors.map { "\($0.name) \($0.shape.elementCount)\n" }.joined().utf8) + Array("\n".utf8)
        end = header.count
        for tensor in tensors {
            starts.append(end)
            end += tensor.byteCount
        }
        let file = try storage.create(key, byteCount: end)
        self.file = file
        try file.write(header, at: 0)
        return .init(tensors: tensors, notes: values.map { "the value \($0.name) is left out" })
    }

    func write(_ bytes: RawSpan, at offset: Int, of item: Int) throws { try file?.write(bytes, at: starts[item] + offset) }

    func close() throws { try file?.finish(byteCount: end) }

    func abandon() { file?.discard() }
}
