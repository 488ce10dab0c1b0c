package import CairnBase
import CairnTensor

/// What a checkpoint holds and safetensors does not know of, as text in the files' metadata.
///
/// `cairn.values`: a JSON object of the values by name, as ``ValueCoding`` writes them; in a rank file of a checkpoint of
/// ours, which is a safetensors file too, a list of names and values. `cairn.ties`: a JSON object that says for each name
/// that is not stored under which name its tensor is. In a sharded checkpoint both are in the first shard.
package struct SafeTensorsNotes {
    private static let valuesKey = "cairn.values"
    private static let tiesKey = "cairn.ties"

    /// The values, sorted by name.
    package var values: [NamedValue] = []
    /// Names that are not stored and the names that are stored in their place, sorted.
    package var ties: [(name: String, kept: String)] = []

    package init() {}

    /// The values of a checkpoint, and the ties among its tensors.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` when a tensor is tied to one that is not stored.
    package init(tensors: [TensorDescription], values: [NamedValue]) throws(CairnError) {
        self.values = values
        let names = Set(tensors.filter { $0.tiedTo == nil }.map { ExactString($0.name) })
        for tensor in tensors {
            guard let kept = tensor.tiedTo else { continue }
            guard names.contains(ExactString(kept)) else {
                throw CairnError(
                    .invalidArgument, "the tensor that this one is tied to is not written",
                    .init(tensor: tensor.name, expected: kept))
            }
            ties.append((tensor.name, kept))
        }
    }

    /// What other readers will not understand, for the user.
    package var sentences: [String] {
        var sentences = ties.map { tie in
            "\"\(tie.name)\" is \"\(tie.kept)\" under another name and stored once; other readers will not see it"
        }
        if !values.isEmpty {
            sentences.append(
                values.count == 1
                    ? "\"\(values[0].name)\" is not a tensor and kept as text that other readers will not understand"
                    : "\(values.count) values are not tensors and kept as text that other readers will not understand")
        }
        return sentences
    }

    /// Reads the notes of a file.
    ///
    /// - Throws: ``CairnError/Code/malformed`` when they are not what ``metadata()`` writes.
    package init(readingFrom header: SafeTensorsHeader, file: String) throws(CairnError) {
        if let text = header.metadata(Self.valuesKey), header.metadata(RankFileMetadata.versionKey) != nil {
            do throws(CairnError) {
                values = try RankFileMetadata.namedValues(RankFileMetadata.json(text, Self.valuesKey))
            } catch {
                throw error.adding(.init(file: file))
            }
        } else if let text = header.metadata(Self.valuesKey) {
            for member in try Self.object(text, Self.valuesKey, file: file).members {
                do throws(CairnError) {
                    values.append(NamedValue(name: member.key, value: try ValueCoding.value(member.value)))
                } catch {
                    throw CairnError(
                        error.code, "the value \"\(member.key)\" in \"\(Self.valuesKey)\": \(error.message)",
                        error.context
                    ).adding(.init(file: file))
                }
            }
        }
        if let text = header.metadata(Self.tiesKey) {
            for member in try Self.object(text, Self.tiesKey, file: file).members {
                guard case .string(let kept) = member.value else {
                    throw CairnError(
                        .malformed, "a tie in \"\(Self.tiesKey)\" is not a name", .init(file: file, tensor: member.key))
                }
                ties.append((member.key, kept))
            }
        }
    }

    /// The notes as entries of a file's metadata.
    package func metadata() throws(CairnError) -> [(key: String, value: String)] {
        var texts: [(key: String, value: String)] = []
        if !ties.isEmpty {
            var object = JSONObject()
            for tie in ties { object[tie.name] = .string(tie.kept) }
            texts.append((Self.tiesKey, try Self.text(object)))
        }
        if !values.isEmpty {
            var object = JSONObject()
            for named in values { object[named.name] = try ValueCoding.json(named.value) }
            texts.append((Self.valuesKey, try Self.text(object)))
        }
        return texts
    }

    /// Whether this key of a file's metadata is ours.
    static func owns(_ key: String) -> Bool { key == valuesKey || key == tiesKey }

    private static func object(_ text: String, _ key: String, file: String) throws(CairnError) -> JSONObject {
        do throws(JSONError) {
            return try JSONValue(parsing: text).asObject()
        } catch {
            throw CairnError(.malformed, "the metadata \"\(key)\": \(error)", .init(file: file))
        }
    }

    package static func text(_ object: JSONObject) throws(CairnError) -> String {
        var writer = JSONWriter()
        do throws(JSONError) {
            try writer.write(.object(object))
        } catch {
            throw CairnError(.invalidArgument, error.message)
        }
        return String(decoding: writer.finish(), as: UTF8.self)
    }
}
