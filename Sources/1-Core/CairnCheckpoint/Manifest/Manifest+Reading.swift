package import CairnBase
import CairnTensor

extension Manifest {
    /// Reads and checks a manifest: its seal, its syntax, and that every tensor is covered exactly by fragments in files
    /// that it lists.
    ///
    /// - Throws: ``CairnError/Code/corrupted`` when the seal is broken, ``CairnError/Code/unsupported`` for a newer format,
    ///   ``CairnError/Code/malformed`` for anything else.
    package init(parsing bytes: [UInt8], file: String) throws(CairnError) {
        try self.init(parsing: bytes, file: file, isWhole: true)
    }

    /// Without `isWhole` reads what rank 0's file repeats of a manifest, which lacks files and tensors, and checks its seal
    /// and syntax alone.
    init(parsing bytes: [UInt8], file: String, isWhole: Bool) throws(CairnError) {
        do throws(CairnError) {
            try Self.checkSeal(bytes)
            let root: JSONObject
            do {
                root = try JSONValue(parsing: bytes, maximumDepth: 48).asObject()
            } catch {
                throw error.cairnError(file: file)
            }
            do {
                try self.init(root)
            } catch let error as JSONError {
                throw error.cairnError(file: file)
            } catch let error as CairnError {
                throw error
            } catch {
                throw CairnError(.malformed, "the manifest cannot be read", cause: error)
            }
            if isWhole { try validate() }
        } catch {
            throw error.adding(.init(file: file))
        }
    }

    private static func checkSeal(_ bytes: [UInt8]) throws(CairnError) {
        let advice = "the checkpoint is damaged or was cut off; use an older one"
        guard bytes.count > ManifestSeal.byteCount else {
            throw CairnError(.corrupted, "the manifest is too short", .init(found: "\(bytes.count) bytes", advice: advice))
        }
        let body = bytes.count - ManifestSeal.byteCount
        let checksum = CRC32C.checksum(bytes.span.extracting(0..<body).bytes)
        let expected = ManifestSeal.text(checksum)
        guard bytes[body...].elementsEqual(expected.utf8) else {
            throw CairnError(
                .corrupted, "the manifest does not match its checksum", .init(offset: body, advice: advice))
        }
    }

    private init(_ outer: JSONObject) throws {
        var root = outer
        let version = try root.integer("cairn")
        guard version == Self.formatVersion else {
            throw CairnError(
                .unsupported, "the checkpoint has another format version",
                .init(expected: "\(Self.formatVersion)", found: "\(version)", advice: "read it with a newer Cairn"))
        }
        let requirements = try root.array("requires").map { try $0.asString() }
        let known = [ManifestPacking.requirement, Self.layoutsRequirement, Self.referencesRequirement]
        for requirement in requirements where !known.contains(requirement) {
            throw CairnError(
                .unsupported, "the checkpoint needs a feature that this version does not have",
                .init(found: requirement, advice: "read it with a newer Cairn"))
        }
        if requirements.contains(ManifestPacking.requirement) { root = try ManifestPacking.unpacked(root) }
        producer = try root.string("producer")
        saveID = try Self.saveID(root.string("save_id"))
        step = try root.integer("step")
        guard step >= 0 else { throw CairnError(.malformed, "a step is negative", .init(found: "\(step)")) }
        time = try Self.double(root.value("time"))
        metrics = [:]
        for member in try root.object("metrics").members { metrics[member.key] = try Self.double(member.value) }
        lineage = try root["lineage"].map { try Lineage($0.asObject()) }
        files = try root.array("files").map { try File($0.asObject()) }
        if root["earlier"] != nil { earlier = try root.array("earlier").map { try EarlierFile($0.asObject()) } }
        layouts = try Self.layouts(root)
        tensors = try root.array("tensors").map { try StoredTensor($0.asObject()) }
        ties = try root.array("ties").map { json in
            let pair = try Self.pair(json)
            return Tie(name: try pair.0.asString(), target: try pair.1.asString())
        }
        values = try root.array("values").map { json in
            let pair = try Self.pair(json)
            return NamedValue(name: try pair.0.asString(), value: try ValueCoding.value(pair.1))
        }
    }

    static func pair(_ json: JSONValue) throws -> (JSONValue, JSONValue) {
        let elements = try json.asArray()
        guard elements.count == 2 else {
            throw CairnError(.malformed, "an entry is not a pair", .init(expected: "2", found: "\(elements.count)"))
        }
        return (elements[0], elements[1])
    }

    static func saveID(_ text: String) throws(CairnError) -> SaveID {
        guard let id = SaveID(text) else {
            throw CairnError(.malformed, "a save id is not 32 hexadecimal digits", .init(found: text))
        }
        return id
    }

    static func double(_ json: JSONValue) throws(CairnError) -> Double {
        guard case .double(let value) = try ValueCoding.value(json) else {
            throw CairnError(.malformed, "a number is not a double", .init(expected: "a double", found: "\(json.kind)"))
        }
        return value
    }

    static func checksum(_ text: String) throws(CairnError) -> UInt32 {
        guard text.utf8.count == 8, let value = UInt32(text, radix: 16), checksumText(value) == text else {
            throw CairnError(.malformed, "a checksum is not eight hexadecimal digits", .init(found: text))
        }
        return value
    }
}

extension Manifest.File {
    init(_ json: JSONObject) throws {
        name = try json.string("name")
        rank = try json.integer("rank")
        byteCount = try json.integer("bytes")
        headerByteCount = try json.integer("header_bytes")
        headerChecksum = try Manifest.checksum(json.string("header_crc32c"))
    }
}

extension Manifest.StoredTensor {
    fileprivate init(_ json: JSONObject) throws {
        name = try json.string("name")
        do {
            let spelling = try json.string("dtype")
            guard let type = ScalarType(rawValue: spelling) else {
                throw CairnError(
                    .unsupported, "a scalar type is unknown",
                    .init(found: spelling, advice: "read it with a newer Cairn"))
            }
            scalarType = type
            shape = try Shape(checking: json.array("shape").map { try $0.asInteger() })
            if let index = json["layout"] {
                layout = try index.asInteger()
                if json["elsewhere"] != nil {
                    elsewhere = try json.array("elsewhere").map { json in
                        let pair = try Manifest.pair(json)
                        return Manifest.Elsewhere(rank: try pair.0.asInteger(), file: try pair.1.asInteger())
                    }
                }
            } else if let file = json["file"] {
                fragments = [.init(file: try file.asInteger(), region: Region(whole: shape))]
            } else {
                fragments = try json.array("fragments").map { try Manifest.Fragment($0.asArray()) }
            }
        } catch let error as CairnError {
            throw error.adding(.init(tensor: name))
        }
    }
}

extension Manifest.Fragment {
    fileprivate init(_ json: [JSONValue]) throws {
        guard json.count == 3 else {
            throw CairnError(.malformed, "a fragment is not [file, offsets, extents]")
        }
        file = try json[0].asInteger()
        region = try Region(
            offsets: json[1].asArray().map { try $0.asInteger() },
            shape: Shape(checking: json[2].asArray().map { try $0.asInteger() }))
    }
}

extension Lineage {
    fileprivate init(_ json: JSONObject) throws {
        operation = try json.string("operation")
        parents = try json.array("parents").map { try Parent($0.asObject()) }
        guard let details = try json["details"].map({ try ValueCoding.value($0) }) else {
            self.details = [:]
            return
        }
        guard case .dictionary(let dictionary) = details else {
            throw CairnError(.malformed, "the details of a lineage are not an object")
        }
        self.details = dictionary
    }
}

extension Lineage.Parent {
    fileprivate init(_ json: JSONObject) throws {
        step = try json["step"].map { try $0.asInteger() }
        saveID = try json["save_id"].map { try Manifest.saveID($0.asString()) }
        source = try json["source"].map { try $0.asString() }
        coefficient = try json["coefficient"].map { try Manifest.double($0) }
    }
}
