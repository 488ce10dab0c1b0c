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
public enum LayoutCoding {
    /// A layout with its mesh as JSON text.
    public static func encode(_ layout: Layout) -> [UInt8] {
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
