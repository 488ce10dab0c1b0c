import CairnBase
import CairnCheckpoint
import CairnTensor

extension DeltaContents {
    /// Reads and checks what ``json()`` wrote.
    ///
    /// - Parameters:
    ///   - changesByteCount: How many bytes of changes the file has.
    ///   - file: The file's name, for errors.
    /// - Throws: ``CairnError/Code/malformed``; ``CairnError/Code/unsupported`` for what a later version may know.
    init(parsing json: [UInt8], changesByteCount: Int, file: String) throws(CairnError) {
        let document: JSONObject, schema: String
        do throws(JSONError) {
            document = try JSONValue(parsing: json).asObject()
            schema = try document.string("schema")
        } catch {
            throw Self.damage(error.message, file)
        }
        guard schema == Self.schema else {
            throw CairnError(
                .unsupported, "the delta is of another version",
                .init(file: file, expected: Self.schema, found: schema, advice: "read it with a newer version"))
        }
        do throws(JSONError) {
            base = try Self.origin(document.object("base"))
            result = try Self.origin(document.object("result"))
            removedValues = try document.array("removed_values").map { value throws(JSONError) in try value.asString() }
            for member in try document.object("base_values").members {
                baseValues.append((member.key, try Self.digest(member.value.asString())))
            }
            for element in try document.array("removed") { removed.append(try Self.description(element.asObject())) }
            for element in try document.array("tensors") {
                tensors.append(try Self.entry(element.asObject(), changesByteCount: changesByteCount))
            }
        } catch {
            throw Self.damage(error.message, file)
        }
        do throws(JSONError) {
            for member in try document.object("values").members {
                do throws(CairnError) {
                    setValues.append(NamedValue(name: member.key, value: try ValueCoding.value(member.value)))
                } catch {
                    throw JSONError("the value \"\(member.key)\": \(error.message)")
                }
            }
        } catch {
            throw Self.damage(error.message, file)
        }
        try checkNames(file)
    }

    private func checkNames(_ file: String) throws(CairnError) {
        for (one, other) in zip(tensors, tensors.dropFirst())
        where !(ExactString(one.description.name) < ExactString(other.description.name)) {
            throw CairnError(
                .malformed, "the delta's tensors are not sorted, or one is there twice",
                .init(file: file, tensor: other.description.name))
        }
        let all = tensors.map(\.description)
        for entry in tensors {
            guard case .tied(let target) = entry.change else { continue }
            guard let position = all.position(of: target), all[position].tiedTo == nil,
                all[position].scalarType == entry.description.scalarType, all[position].shape == entry.description.shape
            else {
                throw CairnError(
                    .malformed, "a tensor is tied to one that is not there, or not like it",
                    .init(file: file, tensor: entry.description.name, found: target))
            }
        }
    }

    private static func entry(_ object: JSONObject, changesByteCount: Int) throws(JSONError) -> Entry {
        var description = try description(object)
        let kind = try object.string("is")
        if kind == "tied" {
            let target = try object.string("to")
            description.tiedTo = target
            return Entry(description: description, change: .tied(target))
        }
        var change = Change.equal
        switch kind {
        case "equal": break
        case "changed": change = .changed(base: try digest(object.string("base_sha256")))
        case "new": change = .new
        default: throw JSONError("the tensor \"\(description.name)\" is \"\(kind)\", which this version does not know")
        }
        var entry = Entry(description: description, change: change)
        entry.sha256 = try digest(object.string("sha256"))
        if object["chunks"] != nil {
            let begin = try object.integer("begin"), end = try object.integer("end")
            entry.chunkCount = try object.integer("chunks")
            guard begin >= 0, end >= begin, end <= changesByteCount, entry.chunkCount > 0,
                let table = entry.chunkCount.multiplied(checked: ChunkTable.entryByteCount), table <= end - begin
            else { throw JSONError("the changes of \"\(description.name)\" lie outside of the file") }
            entry.bytes = begin..<end
        }
        let needsChunks = change != .equal && description.byteCount > 0
        guard needsChunks == (entry.chunkCount > 0) else {
            throw JSONError("the tensor \"\(description.name)\" is \(kind) and has \(entry.chunkCount) chunks")
        }
        return entry
    }

    private static func description(_ object: JSONObject) throws(JSONError) -> TensorDescription {
        let name = try object.string("name"), type = try object.string("dtype")
        guard let scalarType = ScalarType(rawValue: type) else {
            throw JSONError("the tensor \"\(name)\" has the type \"\(type)\", which is unknown")
        }
        let extents = try object.array("shape").map { value throws(JSONError) in try value.asInteger() }
        guard extents.allSatisfy({ $0 >= 0 }), let shape = try? Shape(checking: extents),
            scalarType.byteCount(elementCount: shape.elementCount) != nil
        else { throw JSONError("the tensor \"\(name)\" has no possible shape") }
        return TensorDescription(name: name, scalarType: scalarType, shape: shape)
    }

    private static func origin(_ object: JSONObject) throws(JSONError) -> Origin {
        var origin = Origin()
        if object["source"] != nil { origin.source = try object.string("source") }
        if object["step"] != nil { origin.step = try object.integer("step") }
        if object["save_id"] != nil { origin.saveID = try object.string("save_id") }
        return origin
    }

    private static func digest(_ text: String) throws(JSONError) -> String {
        let isHexadecimal = { (digit: UInt8) in (48...57).contains(digit) || (97...102).contains(digit) }
        guard text.utf8.count == 64, text.utf8.allSatisfy(isHexadecimal) else { throw JSONError("\"\(text)\" is no SHA-256") }
        return text
    }

    private static func damage(_ what: String, _ file: String) -> CairnError {
        CairnError(.malformed, "the delta's contents: \(what)", .init(file: file))
    }
}
