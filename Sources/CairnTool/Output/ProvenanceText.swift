package import CairnBase
import CairnCheckpoint
import CairnTensor

/// Metrics in one line.
enum MetricsText {
    /// `loss=1.234 accuracy=0.5`, sorted by name; `-` for none.
    static func describe(_ metrics: [String: Double]) -> String {
        if metrics.isEmpty { return "-" }
        return metrics.sorted { ExactString($0.key) < ExactString($1.key) }
            .map { "\($0.key)=\(NumberText.short($0.value))" }.joined(separator: " ")
    }
}

/// Where a checkpoint comes from, in one line.
enum LineageText {
    /// `average of 100 (x0.5), 200 (x0.5)`
    static func describe(_ lineage: Lineage) -> String {
        if lineage.parents.isEmpty { return lineage.operation }
        let parents = lineage.parents.map { parent in
            var text = parent.source ?? ""
            if let step = parent.step { text += (text.isEmpty ? "step " : " step ") + String(step) }
            if text.isEmpty { text = parent.saveID?.description ?? "?" }
            if let coefficient = parent.coefficient { text += " (x\(NumberText.short(coefficient)))" }
            return text
        }
        return lineage.operation + " of " + parents.joined(separator: ", ")
    }
}

extension JSONValue {
    /// `{"loss": 1.25}`, sorted by name.
    static func metrics(_ metrics: [String: Double]) -> JSONValue {
        var object = JSONObject()
        for metric in metrics.sorted(by: { ExactString($0.key) < ExactString($1.key) }) {
            object[metric.key] = .number(metric.value)
        }
        return .object(object)
    }

    /// `{"operation": …, "parents": [{"step", "save_id", "source", "coefficient"}]}`
    static func lineage(_ lineage: Lineage) -> JSONValue {
        let parents = lineage.parents.map { parent -> JSONValue in
            [
                "step": parent.step.map { .count($0) } ?? .null,
                "save_id": .optional(parent.saveID?.description), "source": .optional(parent.source),
                "coefficient": parent.coefficient.map { .number($0) } ?? .null,
            ]
        }
        var object: JSONObject = ["operation": .string(lineage.operation), "parents": .array(parents)]
        if !lineage.details.isEmpty { object["details"] = (try? ValueCoding.json(.dictionary(lineage.details))) ?? .null }
        return .object(object)
    }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByDictionaryLiteral {
    package init(stringLiteral value: String) { self = .string(value) }

    package init(dictionaryLiteral members: (String, JSONValue)...) {
        var object = JSONObject()
        for (key, value) in members { object[key] = value }
        self = .object(object)
    }
}
