public import CairnBase
import CairnLayout
import CairnTensor
import CairnYAML

extension UniversalSpec {
    /// The number of the schema that is read and written.
    package static let schemaVersion = 1

    /// Reads a rules file (`Docs/Rules.md` has the schema) and validates it.
    ///
    /// Anchors and aliases are refused, so that no short text stands for a long one.
    ///
    /// - Parameter file: What errors call it.
    /// - Throws: ``CairnError/Code/malformed`` with the line for what is not a rules file,
    ///   ``CairnError/Code/invalidArgument`` for a rule that cannot be meant, naming it.
    public init(yaml: String, file: String? = nil) throws(CairnError) {
        try Self.refuseAnchors(yaml, file: file)
        let root = try YAMLField.parse(yaml, file: file, what: "the rules")
        do throws(CairnError) {
            try self.init(reading: root.mapping())
            try validate()
        } catch {
            throw error.adding(.init(file: file))
        }
    }

    private static func refuseAnchors(_ yaml: String, file: String?) throws(CairnError) {
        var line = 1
        for byte in yaml.utf8 {
            if byte == UInt8(ascii: "\n") { line += 1 }
            if byte == UInt8(ascii: "&") {
                throw CairnError(
                    .unsupported, "line \(line): anchors and aliases are not read",
                    .init(file: file, found: "\"&\"", advice: "write \"\\x26\" for an ampersand in a name"))
            }
        }
    }

    private init(reading root: YAMLMapping) throws(CairnError) {
        try root.allow("cairn-rules", "summary", "parameters", "mesh", "moments", "buffers", "rules")
        let version = try root.required("cairn-rules")
        guard try version.number() == Self.schemaVersion else {
            throw version.error(
                "the version of the schema is not known", expected: "\(Self.schemaVersion)", found: try version.text())
        }
        var parameters: [Parameter] = []
        for (name, value) in try root["parameters"]?.mapping().entries ?? [] {
            parameters.append(Parameter(name, try value.number()))
        }
        var axes: [MeshAxis] = []
        for (name, value) in try root["mesh"]?.mapping().entries ?? [] {
            axes.append(MeshAxis(name, size: value.isNull ? nil : try value.number()))
        }
        self.init(axes: axes, parameters: parameters)
        summary = try root["summary"]?.text()
        for field in try root["moments"]?.list() ?? [] { moments.append(try Moment(reading: field)) }
        for field in try root["buffers"]?.list() ?? [] { buffers.append(try FlatBuffer(reading: field)) }
        for field in try root.required("rules").list() { rules.append(try Rule(reading: field)) }
    }
}

extension Moment {
    fileprivate init(reading field: YAMLField) throws(CairnError) {
        let mapping = try field.mapping()
        try mapping.allow("name", "from", "to", "dtype", "placement", "optional")
        self.init(
            try mapping.required("name").text(), from: try mapping.required("from").text(),
            to: try mapping.required("to").text(), scalarType: try mapping["dtype"]?.scalarType(),
            placement: try mapping["placement"]?.placement() ?? [], isOptional: try mapping["optional"]?.bool() ?? false
        )
    }
}

extension FlatBuffer {
    fileprivate init(reading field: YAMLField) throws(CairnError) {
        let mapping = try field.mapping()
        try mapping.allow("name", "over", "arrangement", "alignment", "multiple", "trimmed", "present", "members")
        let arrangement: Arrangement
        switch try mapping["arrangement"]?.text() ?? "group" {
        case "group":
            arrangement = .group(
                alignment: try mapping["alignment"]?.expression() ?? 1,
                multiple: try mapping["multiple"]?.expression() ?? 1)
        case "per-tensor":
            try mapping.allow("name", "over", "arrangement", "trimmed", "present", "members")
            arrangement = .perTensor
        case let other:
            throw field.error("there is no such arrangement", expected: "group, per-tensor", found: other)
        }
        var members: [Member] = []
        for member in try mapping.required("members").list() {
            let pair = try member.pair()
            members.append(Member(pair.key, try pair.value.expressions()))
        }
        var present: [Presence] = []
        for (axis, coordinates) in try mapping["present"]?.mapping().entries ?? [] {
            present.append(Presence(axis, on: try coordinates.expressions()))
        }
        self.init(
            try mapping.required("name").text(), over: try mapping.required("over").text(), arrangement: arrangement,
            isTrimmed: try mapping["trimmed"]?.bool() ?? false, present: present, members: members)
    }
}

extension Rule {
    fileprivate init(reading field: YAMLField) throws(CairnError) {
        let mapping = try field.mapping()
        try mapping.allow(
            "name", "from", "to", "except", "placement", "transforms", "shape", "tie", "drop", "optional",
            "unite-only", "moments")
        self.init(
            try mapping.required("name").text(), from: try mapping.required("from").texts(),
            to: try mapping["to"]?.texts() ?? [])
        except = try mapping["except"]?.texts() ?? []
        placement = try mapping["placement"]?.placement() ?? []
        for transform in try mapping["transforms"]?.list() ?? [] {
            transforms.append(try RuleTransform(reading: transform))
        }
        shape = try mapping["shape"]?.expressions()
        isOptional = try mapping["optional"]?.bool() ?? false
        isForGatheringOnly = try mapping["unite-only"]?.bool() ?? false
        if let target = try mapping["tie"]?.text() { outcome = .tie(to: target) }
        if let drops = mapping["drop"], try drops.bool() {
            guard outcome == .tensors else { throw drops.error("a rule either ties or drops") }
            outcome = .drop
        }
        if let moments = mapping["moments"] {
            if moments.isScalar {
                guard try moments.text() == "all" else { throw moments.error("expected all, or a list of moments") }
                self.moments = .all
            } else {
                self.moments = .only(try moments.texts())
            }
        } else if outcome == .drop {
            self.moments = .none
        }
    }
}

extension YAMLField {
    fileprivate func scalarType() throws(CairnError) -> ScalarType {
        let text = try text()
        guard let type = ScalarType(rawValue: text) else {
            throw error(
                "there is no such element type", expected: "as safetensors spells it, such as BF16", found: text)
        }
        return type
    }

    fileprivate func placement() throws(CairnError) -> [On] {
        var steps: [On] = []
        for field in try list() {
            let pair = try field.pair()
            steps.append(On(pair.key, try PlacementRule(reading: pair.value)))
        }
        return steps
    }
}

extension PlacementRule {
    fileprivate init(reading field: YAMLField) throws(CairnError) {
        if field.isScalar {
            guard try field.text() == "replicate" else {
                throw field.error("there is no such placement", expected: Self.known, found: try field.text())
            }
            self = .replicate
            return
        }
        let mapping = try field.mapping()
        switch mapping.entries.first?.key {
        case "shard":
            try mapping.allow("shard", "division", "unit", "sections", "repeats")
            var sections = Sections.whole
            if let given = mapping["sections"] {
                sections = given.isSequence ? .sizes(try given.expressions()) : .equal(try given.expression())
            }
            self = .shard(
                dimension: try mapping.required("shard").number(),
                division: try mapping["division"].map(Division.init(reading:)) ?? .even,
                unit: try mapping["unit"]?.expression() ?? 1, sections: sections,
                repeats: try mapping["repeats"]?.expression() ?? 1)
        case "flatten":
            try mapping.allow("flatten", "start", "size", "cuts")
            let kind = try mapping.required("flatten")
            switch try kind.text() {
            case "per-tensor":
                try mapping.allow("flatten")
                self = .flatten(.perTensor)
            case "buffer":
                try mapping.allow("flatten")
                self = .flatten(.buffer)
            case "equal":
                self = .flatten(
                    .equal(
                        start: try mapping.required("start").expression(),
                        size: try mapping.required("size").expression()))
            case "cuts":
                self = .flatten(
                    .cuts(
                        start: try mapping.required("start").expression(), try mapping.required("cuts").expressions()))
            case let other:
                throw kind.error(
                    "there is no such flattening", expected: "per-tensor, buffer, equal, cuts", found: other)
            }
        case "present":
            try mapping.allow("present")
            self = .present(on: try mapping.required("present").expressions())
        case "partial":
            try mapping.allow("partial")
            let reduction = try mapping.required("partial")
            switch try reduction.text() {
            case "sum": self = .partial(.sum)
            case "mean": self = .partial(.mean)
            case let other: throw reduction.error("there is no such reduction", expected: "sum, mean", found: other)
            }
        case let other:
            throw field.error("there is no such placement", expected: Self.known, found: other ?? "nothing")
        }
    }

    private static let known = "replicate, shard, flatten, present, partial"
}

extension PlacementRule.Division {
    fileprivate init(reading field: YAMLField) throws(CairnError) {
        if field.isSequence {
            self = .sizes(try field.expressions())
            return
        }
        switch try field.text() {
        case "even": self = .even
        case "chunked": self = .chunked
        case "balanced": self = .balanced
        case let other:
            throw field.error(
                "there is no such division", expected: "even, chunked, balanced, or a list of sizes", found: other)
        }
    }
}

extension RuleTransform {
    fileprivate init(reading field: YAMLField) throws(CairnError) {
        if field.isScalar {
            guard try field.text() == "transpose" else {
                throw field.error("there is no such transform", expected: Self.known, found: try field.text())
            }
            self = .transpose
            return
        }
        let (key, value) = try field.pair()
        switch key {
        case "split": self = .split(try Parts(reading: value))
        case "fuse": self = .fuse(try Parts(reading: value))
        case "strip": self = .strip(try Padding(reading: value))
        case "pad": self = .pad(try Padding(reading: value))
        case "permute":
            var order: [Int] = []
            for element in try value.list() { order.append(try element.number()) }
            self = .permute(order)
        case "stack":
            let mapping = try value.mapping()
            try mapping.allow("axis", "slot")
            self = .stack(axis: try mapping.required("axis").number(), slot: try mapping.required("slot").expression())
        case "unstack":
            let mapping = try value.mapping()
            try mapping.allow("axis", "slot")
            self = .unstack(axis: try mapping.required("axis").number(), slot: try mapping.required("slot").text())
        case "copy":
            let mapping = try value.mapping()
            try mapping.allow("slot", "count", "parts", "dimension")
            self = .copy(
                slot: try mapping.required("slot").text(), count: try mapping.required("count").expression(),
                parts: try mapping["parts"]?.expression() ?? 1, dimension: try mapping["dimension"]?.number() ?? 0)
        case "cast":
            let mapping = try value.mapping()
            try mapping.allow("from", "to")
            self = .cast(from: try mapping["from"]?.scalarType(), to: try mapping.required("to").scalarType())
        default: throw field.error("there is no such transform", expected: Self.known, found: key)
        }
    }

    private static let known = "split, fuse, stack, unstack, copy, permute, transpose, cast, strip, pad"
}

extension RuleTransform.Parts {
    fileprivate init(reading field: YAMLField) throws(CairnError) {
        let mapping = try field.mapping()
        try mapping.allow("dimension", "sizes", "groups")
        self.init(
            dimension: try mapping.required("dimension").number(), sizes: try mapping["sizes"]?.expressions(),
            groups: try mapping["groups"]?.expression() ?? 1)
    }
}

extension RuleTransform.Padding {
    fileprivate init(reading field: YAMLField) throws(CairnError) {
        let mapping = try field.mapping()
        try mapping.allow("dimension", "extent", "multiple")
        self.init(
            dimension: try mapping.required("dimension").number(), extent: try mapping.required("extent").expression(),
            multiple: try mapping["multiple"]?.expression())
    }
}

extension YAMLField {
    func expression() throws(CairnError) -> IntegerExpression {
        let text = try text()
        do throws(CairnError) {
            _ = try ArithmeticParser.parse(text)
        } catch {
            throw self.error(error.message, found: text.debugDescription)
        }
        return IntegerExpression(text)
    }

    func expressions() throws(CairnError) -> [IntegerExpression] {
        var result: [IntegerExpression] = []
        for element in try list() { result.append(try element.expression()) }
        return result
    }
}
