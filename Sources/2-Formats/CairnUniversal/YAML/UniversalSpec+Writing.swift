import CairnLayout
import CairnTensor

extension UniversalSpec {
    /// The rules as a file that ``init(yaml:file:)`` reads back to the same.
    public var yaml: String { yaml(commenting: { _ in nil }) }

    /// The rules as a file with a remark above some of them.
    func yaml(commenting comment: (Rule) -> String?) -> String {
        var lines = ["cairn-rules: \(Self.schemaVersion)"]
        if let summary { lines.append("summary: \(YAMLText.scalar(summary))") }
        if !parameters.isEmpty {
            lines.append("parameters:")
            lines += parameters.map { "  \(YAMLText.scalar($0.name)): \($0.value)" }
        }
        if !axes.isEmpty {
            lines.append("mesh:")
            lines += axes.map { "  \(YAMLText.scalar($0.name)):" + ($0.size.map { " \($0)" } ?? "") }
        }
        if !moments.isEmpty { lines += ["moments:"] + moments.flatMap(\.lines) }
        if !buffers.isEmpty { lines += ["buffers:"] + buffers.flatMap(\.lines) }
        lines.append(rules.isEmpty ? "rules: []" : "rules:")
        for rule in rules {
            if let comment = comment(rule) {
                lines += comment.split(separator: "\n", omittingEmptySubsequences: false).map { "  # \($0)" }
            }
            lines += rule.lines
        }
        return lines.joined(separator: "\n") + "\n"
    }
}

/// Text as YAML.
enum YAMLText {
    /// Plain where it cannot be taken for anything else, else in double quotes.
    static func scalar(_ text: String) -> String {
        let reserved = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"]
        let isPlain =
            !text.isEmpty && !reserved.contains(text.lowercased())
            && text.utf8.allSatisfy {
                IdentifierText.isIdentifier($0) || $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "-")
            }
            && text.utf8.first.map(IdentifierText.isIdentifier) == true
        return isPlain ? text : quoted(text)
    }

    private static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            // Not read unescaped: see the reader.
            case "&": result += "\\x26"
            default:
                if (0x20..<0x7f).contains(scalar.value) || (0xa0..<0x2000).contains(scalar.value) {
                    result.unicodeScalars.append(scalar)
                } else {
                    let digits = String(scalar.value, radix: 16)
                    result += "\\U" + String(repeating: "0", count: 8 - digits.count) + digits
                }
            }
        }
        return result + "\""
    }

    static func list(_ texts: [String]) -> String { "[" + texts.map(scalar).joined(separator: ", ") + "]" }

    static func list(_ expressions: [IntegerExpression]) -> String { list(expressions.map(\.text)) }

    /// One text, or a list of several.
    static func texts(_ texts: [String]) -> String { texts.count == 1 ? scalar(texts[0]) : list(texts) }

    /// Keys and values on a line.
    static func inline(_ pairs: [(String, String?)]) -> String {
        "{" + pairs.compactMap { key, value in value.map { "\(key): \($0)" } }.joined(separator: ", ") + "}"
    }
}

extension Moment {
    fileprivate var lines: [String] {
        var lines = ["  - name: \(YAMLText.scalar(name))"]
        lines.append("    from: \(YAMLText.scalar(from))")
        lines.append("    to: \(YAMLText.scalar(to))")
        if let scalarType { lines.append("    dtype: \(scalarType)") }
        lines += placement.lines
        if isOptional { lines.append("    optional: true") }
        return lines
    }
}

extension FlatBuffer {
    fileprivate var lines: [String] {
        var lines = ["  - name: \(YAMLText.scalar(name))", "    over: \(YAMLText.scalar(axis))"]
        switch arrangement {
        case .perTensor: lines.append("    arrangement: per-tensor")
        case .group(let alignment, let multiple):
            if alignment != 1 { lines.append("    alignment: \(YAMLText.scalar(alignment.text))") }
            if multiple != 1 { lines.append("    multiple: \(YAMLText.scalar(multiple.text))") }
        }
        if isTrimmed { lines.append("    trimmed: true") }
        if !present.isEmpty {
            let pairs = present.map { (YAMLText.scalar($0.axis), Optional(YAMLText.list($0.coordinates))) }
            lines.append("    present: \(YAMLText.inline(pairs))")
        }
        lines.append(members.isEmpty ? "    members: []" : "    members:")
        lines += members.map { "      - \(YAMLText.scalar($0.name)): \(YAMLText.list($0.shape))" }
        return lines
    }
}

extension Rule {
    fileprivate var lines: [String] {
        var lines = ["  - name: \(YAMLText.scalar(name))", "    from: \(YAMLText.texts(from))"]
        if !to.isEmpty { lines.append("    to: \(YAMLText.texts(to))") }
        if !except.isEmpty { lines.append("    except: \(YAMLText.texts(except))") }
        if let shape { lines.append("    shape: \(YAMLText.list(shape))") }
        lines += placement.lines
        if !transforms.isEmpty {
            lines.append("    transforms:")
            lines += transforms.map { "      - \($0.yaml)" }
        }
        switch outcome {
        case .tensors: break
        case .tie(let target): lines.append("    tie: \(YAMLText.scalar(target))")
        case .drop: lines.append("    drop: true")
        }
        if isOptional { lines.append("    optional: true") }
        if isForGatheringOnly { lines.append("    unite-only: true") }
        switch moments {
        case .all: if outcome == .drop { lines.append("    moments: all") }
        case .only(let names):
            if outcome != .drop || !names.isEmpty { lines.append("    moments: \(YAMLText.list(names))") }
        }
        return lines
    }
}

extension [On] {
    fileprivate var lines: [String] {
        isEmpty ? [] : ["    placement:"] + map { "      - \(YAMLText.scalar($0.axis)): \($0.placement.yaml)" }
    }
}

extension PlacementRule {
    /// As a rules file has it.
    var yaml: String {
        switch self {
        case .replicate: return "replicate"
        case .present(let coordinates): return YAMLText.inline([("present", YAMLText.list(coordinates))])
        case .partial(let reduction): return YAMLText.inline([("partial", reduction.rawValue)])
        case .flatten(.perTensor): return YAMLText.inline([("flatten", "per-tensor")])
        case .flatten(.buffer): return YAMLText.inline([("flatten", "buffer")])
        case .flatten(.equal(let start, let size)):
            return YAMLText.inline([
                ("flatten", "equal"), ("start", YAMLText.scalar(start.text)), ("size", YAMLText.scalar(size.text)),
            ])
        case .flatten(.cuts(let start, let cuts)):
            return YAMLText.inline([
                ("flatten", "cuts"), ("start", YAMLText.scalar(start.text)), ("cuts", YAMLText.list(cuts)),
            ])
        case .shard(let dimension, let division, let unit, let sections, let repeats):
            return YAMLText.inline([
                ("shard", "\(dimension)"), ("division", division.yaml),
                ("unit", unit == 1 ? nil : YAMLText.scalar(unit.text)), ("sections", sections.yaml),
                ("repeats", repeats == 1 ? nil : YAMLText.scalar(repeats.text)),
            ])
        }
    }
}

extension PlacementRule.Division {
    fileprivate var yaml: String? {
        switch self {
        case .even: nil
        case .chunked: "chunked"
        case .balanced: "balanced"
        case .sizes(let sizes): YAMLText.list(sizes)
        }
    }
}

extension PlacementRule.Sections {
    fileprivate var yaml: String? {
        switch self {
        case .whole: nil
        case .equal(let count): YAMLText.scalar(count.text)
        case .sizes(let sizes): YAMLText.list(sizes)
        }
    }
}

extension RuleTransform {
    /// As a rules file has it.
    var yaml: String {
        switch self {
        case .split(let parts): "split: \(parts.yaml)"
        case .fuse(let parts): "fuse: \(parts.yaml)"
        case .strip(let padding): "strip: \(padding.yaml)"
        case .pad(let padding): "pad: \(padding.yaml)"
        case .permute([1, 0]): "transpose"
        case .permute(let order): "permute: [\(order.map(String.init).joined(separator: ", "))]"
        case .stack(let axis, let slot):
            "stack: " + YAMLText.inline([("axis", "\(axis)"), ("slot", YAMLText.scalar(slot.text))])
        case .unstack(let axis, let slot):
            "unstack: " + YAMLText.inline([("axis", "\(axis)"), ("slot", YAMLText.scalar(slot))])
        case .copy(let copies):
            "copy: "
                + YAMLText.inline([
                    ("slot", YAMLText.scalar(copies.slot)), ("count", YAMLText.scalar(copies.count.text)),
                    ("parts", copies.parts == 1 ? nil : YAMLText.scalar(copies.parts.text)),
                    ("dimension", copies.dimension == 0 ? nil : "\(copies.dimension)"),
                ])
        case .cast(let from, let to):
            "cast: " + YAMLText.inline([("from", from?.description), ("to", to.description)])
        }
    }
}

extension RuleTransform.Parts {
    fileprivate var yaml: String {
        YAMLText.inline([
            ("dimension", "\(dimension)"), ("sizes", sizes.map(YAMLText.list)),
            ("groups", groups == 1 ? nil : YAMLText.scalar(groups.text)),
        ])
    }
}

extension RuleTransform.Padding {
    fileprivate var yaml: String {
        YAMLText.inline([
            ("dimension", "\(dimension)"), ("extent", YAMLText.scalar(extent.text)),
            ("multiple", multiple.map { YAMLText.scalar($0.text) }),
        ])
    }
}
