package import CairnBase
import CairnTensor

/// Meshes and layouts as JSON: compact, the same bytes for equal values, checked when read.
///
/// A mesh is `[["dp",2],["tp",4]]`. A layout is an object of
/// - `mesh`, where the layout stands by itself;
/// - `steps`, each `[axis, kind, …]`:
///   `["dp","replicate"]`,
///   `["tp","shard",dimension]`, then `{"division":…,"unit":…}` or `{"sections":[…],"repeats":…}` where they differ
///   from an even division of single elements,
///   `["dp","flatten"]`, then `{"start":…,"equal":…}` or `{"start":…,"cuts":[…]}`,
///   `["pp","present",[0,2]]`,
///   `["dp","partial","sum"]`;
/// - `padding`: `[[dimension,extent],…]`;
/// - or, explicit, `explicit`: for each rank the regions, each `[[offsets],[extents]]`.
///
/// A division is `"even"`, `"chunked"`, `"balanced"` or an array of sizes; a section is
/// `{"size":…,"division":…,"unit":…}`. What is left out is the default: size the whole, division even, unit 1, repeats
/// 1, start 0. Unknown members are refused: a layout that is understood in part places elements wrongly.
package enum LayoutCoding {
    /// A layout with its mesh as JSON text.
    package static func encode(_ layout: Layout) -> [UInt8] {
        var object: JSONObject = ["mesh": json(layout.mesh)]
        for member in json(members: layout).members { object[member.key] = member.value }
        var writer = JSONWriter()
        // Only a floating-point number could fail, and a layout has none; an empty text would not be read as one.
        do { try writer.write(.object(object)) } catch { return [] }
        return writer.finish()
    }

    /// A mesh.
    package static func json(_ mesh: DeviceMesh) -> JSONValue {
        .array(mesh.axes.map { .array([.string($0.name), number($0.size)]) })
    }

    /// A layout without its mesh.
    package static func json(_ layout: Layout) -> JSONValue { .object(json(members: layout)) }

    private static func json(members layout: Layout) -> JSONObject {
        var object = JSONObject()
        if let explicit = layout.explicit {
            object["explicit"] = .array(
                explicit.map { regions in
                    .array(regions.map { .array([numbers($0.offsets), numbers($0.shape.extents)]) })
                })
        }
        if !layout.steps.isEmpty { object["steps"] = .array(layout.steps.map(json)) }
        if !layout.padding.isEmpty {
            let sorted = layout.padding.sorted { $0.key < $1.key }
            object["padding"] = .array(sorted.map { numbers([$0.key, $0.value]) })
        }
        return object
    }

    private static func json(_ step: Layout.Step) -> JSONValue {
        var parts: [JSONValue] = [.string(step.axis)]
        switch step.placement {
        case .replicate: parts.append(.string("replicate"))
        case .shard(let sharding):
            parts += [.string("shard"), number(sharding.dimension)]
            let object = json(sharding)
            if !object.members.isEmpty { parts.append(.object(object)) }
        case .flatten(let flattening):
            parts.append(.string("flatten"))
            let object = json(flattening)
            if !object.members.isEmpty { parts.append(.object(object)) }
        case .present(let coordinates): parts += [.string("present"), numbers(coordinates)]
        case .partial(let reduction): parts += [.string("partial"), .string(reduction.rawValue)]
        }
        return .array(parts)
    }

    private static func json(_ sharding: Sharding) -> JSONObject {
        if sharding.repeats == 1, sharding.sections.count == 1, sharding.sections[0].size == nil {
            return json(sharding.sections[0])
        }
        var object: JSONObject = ["sections": .array(sharding.sections.map { .object(json($0)) })]
        if sharding.repeats != 1 { object["repeats"] = number(sharding.repeats) }
        return object
    }

    private static func json(_ section: Sharding.Section) -> JSONObject {
        var object = JSONObject()
        if let size = section.size { object["size"] = number(size) }
        switch section.division {
        case .even: break
        case .chunked: object["division"] = .string("chunked")
        case .balanced: object["division"] = .string("balanced")
        case .sizes(let sizes): object["division"] = numbers(sizes)
        }
        if section.unit != 1 { object["unit"] = number(section.unit) }
        return object
    }

    private static func json(_ flattening: Flattening) -> JSONObject {
        var object = JSONObject()
        if flattening.start != 0 { object["start"] = number(flattening.start) }
        switch flattening.partition {
        case .perTensor: break
        case .equal(let size): object["equal"] = number(size)
        case .cuts(let cuts): object["cuts"] = numbers(cuts)
        }
        return object
    }

    private static func number(_ value: Int) -> JSONValue { .integer(Int64(value)) }

    private static func numbers(_ values: [Int]) -> JSONValue { .array(values.map(number)) }
}

extension LayoutCoding {
    /// Reads a layout with its mesh.
    ///
    /// - Throws: ``CairnError/Code/malformed`` for whatever is not a layout.
    package static func decode(_ bytes: [UInt8]) throws(CairnError) -> Layout {
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
