import CairnBase
import CairnStorage
import CairnTensor

/// One open safetensors file of a checkpoint.
struct SafeTensorsShard {
    var key: String
    var file: any StorageFile
    var header: SafeTensorsHeader

    /// - Parameter index: The index that names the file; without the file the checkpoint is then incomplete.
    init(opening key: String, of storage: any Storage, namedBy index: String? = nil) throws(CairnError) {
        self.key = key
        do throws(CairnError) {
            file = try storage.open(key)
        } catch {
            guard let index, error.code == .notFound else { throw error }
            throw CairnError(
                .incomplete, "a file that the index names is missing", .init(file: key, expected: "as in \(index)"),
                cause: error)
        }
        header = try SafeTensorsHeader.read(from: file)
    }

    /// Throws unless the file holds the tensors that the index places in it and no others.
    func check(holdsJust names: Set<ExactString>, accordingTo index: String) throws(CairnError) {
        let held = Set(header.entries.map { ExactString($0.name) })
        if let missing = names.subtracting(held).min() {
            throw CairnError(
                .incomplete, "the index places a tensor in this file that is not there",
                .init(file: key, tensor: missing.string, expected: "as in \(index)"))
        }
        let extra = held.subtracting(names).sorted()
        guard extra.isEmpty else {
            let shown = extra.prefix(8).map { "\"\($0.string)\"" }.joined(separator: ", ")
            throw CairnError(
                .mismatch, "the file holds tensors that the index does not place in it",
                .init(
                    file: key, expected: "as in \(index)",
                    found: shown + (extra.count > 8 ? " and \(extra.count - 8) more" : ""),
                    advice: "open the file by itself, or correct the index"))
        }
    }
}

/// What the files of a checkpoint hold together.
struct SafeTensorsContents {
    var tensors: [(description: TensorDescription, stored: FileTensor)] = []
    var values: [NamedValue] = []
    private var texts: [NamedValue] = []
    private var ties: [(name: String, kept: String)] = []
    private var positions: [ExactString: Int] = [:]

    /// - Throws: ``CairnError/Code/mismatch`` when the file repeats a name.
    mutating func add(_ shard: SafeTensorsShard) throws(CairnError) {
        let header = shard.header
        positions.reserveCapacity(positions.count + header.entries.count)
        for entry in header.entries {
            guard positions.updateValue(tensors.count, forKey: ExactString(entry.name)) == nil else {
                throw CairnError(
                    .mismatch, "another file of the checkpoint holds a tensor of this name",
                    .init(file: shard.key, tensor: entry.name))
            }
            tensors.append(
                (
                    TensorDescription(name: entry.name, scalarType: entry.scalarType, shape: entry.shape),
                    FileTensor(
                        file: shard.file, byteOffset: header.dataStart + entry.byteRange.lowerBound,
                        scalarType: entry.scalarType, shape: entry.shape)
                ))
        }
        let notes = try SafeTensorsNotes(readingFrom: header, file: shard.key)
        values += notes.values
        ties += notes.ties
        for text in header.metadata where !SafeTensorsNotes.owns(text.key) {
            texts.append(NamedValue(name: text.key, value: .string(text.value)))
        }
    }

    /// Lists every tie as a tensor, once all files are added.
    ///
    /// - Throws: ``CairnError/Code/malformed`` when a tied name is stored too or what it is tied to is not.
    mutating func addTies(source: String) throws(CairnError) {
        for tie in ties {
            guard let position = positions[ExactString(tie.kept)], tensors[position].description.tiedTo == nil else {
                throw CairnError(
                    .malformed, "the tensor that this one is tied to is not stored",
                    .init(file: source, tensor: tie.name, expected: tie.kept))
            }
            guard positions.updateValue(tensors.count, forKey: ExactString(tie.name)) == nil else {
                throw CairnError(.malformed, "a tied tensor is stored too", .init(file: source, tensor: tie.name))
            }
            var tied = tensors[position]
            tied.description.name = tie.name
            tied.description.tiedTo = tie.kept
            tensors.append(tied)
        }
        var names: Set<ExactString> = []
        for named in values where !names.insert(ExactString(named.name)).inserted {
            throw CairnError(.malformed, "two values have the name \"\(named.name)\"", .init(file: source))
        }
    }

    mutating func sort() {
        tensors.sort { ExactString($0.description.name) < ExactString($1.description.name) }
        values.sort { ExactString($0.name) < ExactString($1.name) }
    }

    /// The index's notes and the files' texts, each key once.
    func metadata(with notes: [NamedValue]) -> [NamedValue] {
        var names: Set<ExactString> = []
        let first = (notes + texts).filter { names.insert(ExactString($0.name)).inserted }
        return first.sorted { ExactString($0.name) < ExactString($1.name) }
    }
}
