public import CairnBase
import CairnTensor

extension LayoutCoding {
    /// Reads a layout with its mesh.
    ///
    /// - Throws: ``CairnError/Code/malformed`` for whatever is not a layout.
    public static func decode(_ bytes: [UInt8]) throws(CairnError) -> Layout {
        try malformed("layout") { () throws in
            let value = try JSONValue(parsing: bytes, maximumDepth: 16)
            let object = try value.asObject()
            let mesh = try mesh(object.value("mesh"))
            var rest = object
            rest["mesh"] = nil
            return try layout(.object(rest), on: mesh)
        }
    }

    /// Reads a mesh.
    ///
    /// - Throws: ``CairnError/Code/malformed`` for whatever is not a mesh.
    package static func mesh(_ value: JSONValue) throws(CairnError) -> DeviceMesh {
        try malformed("mesh") { () throws in
            var axes: [DeviceMesh.Axis] = []
            for axis in try value.asArray() {
                let pair = try array(axis, of: 2, "an axis")
                axes.append(.init(try pair[0].asString(), try pair[1].asInteger()))
            }
            return try DeviceMesh(axes: axes)
        }
    }

    /// Reads a layout without its mesh.
    ///
    /// - Throws: ``CairnError/Code/malformed`` for whatever is not a layout on that mesh.
    package static func layout(_ value: JSONValue, on mesh: DeviceMesh) throws(CairnError) -> Layout {
        try malformed("layout") { () throws in
            let object = try value.asObject()
            try refuseUnknown(object, but: ["explicit", "padding", "steps"])
            if let explicit = object["explicit"] {
                try refuseUnknown(object, but: ["explicit"])
                var ranks: [[Region]] = []
                for list in try explicit.asArray() {
                    ranks.append(try list.asArray().map(region))
                }
                return try Layout(mesh, explicit: ranks)
            }
            var padding: [Int: Int] = [:]
            for entry in try object["padding"]?.asArray() ?? [] {
                let pair = try array(entry, of: 2, "a padding")
                guard padding.updateValue(try pair[1].asInteger(), forKey: try pair[0].asInteger()) == nil else {
                    throw JSONError("a dimension is padded twice")
                }
            }
            let steps = try object["steps"]?.asArray().map(step) ?? []
            return try Layout(mesh, steps: steps, padding: padding)
        }
    }

    private static func step(_ value: JSONValue) throws -> Layout.Step {
        let parts = try value.asArray()
        guard parts.count >= 2 else { throw JSONError("expected a step, found an array of \(parts.count)") }
        let placement: Placement
        let kind = try parts[1].asString()
        switch (kind, parts.count) {
        case ("replicate", 2): placement = .replicate
        case ("shard", 3): placement = .shard(try parts[2].asInteger())
        case ("shard", 4): placement = .shard(try sharding(try parts[2].asInteger(), parts[3].asObject()))
        case ("flatten", 2): placement = .flatten(.perTensor)
        case ("flatten", 3): placement = .flatten(try flattening(parts[2].asObject()))
        case ("present", 3): placement = .present(on: try integers(parts[2]))
        case ("partial", 3):
            guard let reduction = Reduction(rawValue: try parts[2].asString()) else {
                throw JSONError("expected \"sum\" or \"mean\"")
            }
            placement = .partial(reduction)
        default: throw JSONError("expected a placement, found \"\(kind.prefix(40))\" with \(parts.count - 2) arguments")
        }
        return Layout.Step(try parts[0].asString(), placement)
    }

    private static func sharding(_ dimension: Int, _ object: JSONObject) throws -> Sharding {
        guard let sections = object["sections"] else {
            try refuseUnknown(object, but: ["division", "unit"])
            return Sharding(dimension: dimension, sections: [try section(object)])
        }
        try refuseUnknown(object, but: ["repeats", "sections"])
        return Sharding(
            dimension: dimension, sections: try sections.asArray().map { try section($0.asObject()) },
            repeats: try object["repeats"]?.asInteger() ?? 1)
    }

    private static func section(_ object: JSONObject) throws -> Sharding.Section {
        try refuseUnknown(object, but: ["division", "size", "unit"])
        var division = Division.even
        switch object["division"] {
        case nil, .string("even")?: break
        case .string("chunked")?: division = .chunked
        case .string("balanced")?: division = .balanced
        case let sizes?: division = .sizes(try integers(sizes))
        }
        return .init(
            size: try object["size"]?.asInteger(), division: division, unit: try object["unit"]?.asInteger() ?? 1)
    }

    private static func flattening(_ object: JSONObject) throws -> Flattening {
        try refuseUnknown(object, but: ["cuts", "equal", "start"])
        let start = try object["start"]?.asInteger() ?? 0
        switch (object["equal"], object["cuts"]) {
        case (let size?, nil): return Flattening(start: start, partition: .equal(try size.asInteger()))
        case (nil, let cuts?): return Flattening(start: start, partition: .cuts(try integers(cuts)))
        case (nil, nil): return Flattening(start: start, partition: .perTensor)
        default: throw JSONError("a flattening has either \"equal\" or \"cuts\"")
        }
    }

    private static func region(_ value: JSONValue) throws -> Region {
        let pair = try array(value, of: 2, "a region")
        return try Region(offsets: integers(pair[0]), shape: Shape(checking: integers(pair[1])))
    }

    private static func integers(_ value: JSONValue) throws(JSONError) -> [Int] {
        var numbers: [Int] = []
        for element in try value.asArray() { numbers.append(try element.asInteger()) }
        return numbers
    }

    private static func array(_ value: JSONValue, of count: Int, _ what: String) throws(JSONError) -> [JSONValue] {
        let elements = try value.asArray()
        guard elements.count == count else {
            throw JSONError("expected \(what) of \(count) parts, found an array of \(elements.count)")
        }
        return elements
    }

    private static func refuseUnknown(_ object: JSONObject, but known: [String]) throws(JSONError) {
        for member in object.members where !known.contains(where: { ExactString($0) == ExactString(member.key) }) {
            throw JSONError("unknown member \"\(member.key.prefix(40))\"")
        }
    }

    /// What a file says is malformed, whatever it is that it gets wrong.
    private static func malformed<Value>(_ what: String, _ read: () throws -> Value) throws(CairnError) -> Value {
        do {
            return try read()
        } catch let error as CairnError {
            throw CairnError(.malformed, error.message, error.context)
        } catch let error as JSONError {
            throw CairnError(.malformed, "a \(what) is not what it should be: \(error)")
        } catch {
            throw CairnError(.malformed, "a \(what) cannot be read", cause: error)
        }
    }
}
