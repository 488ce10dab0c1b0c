import CairnBase
import CairnCheckpoint
import CairnTensor

/// The tensors of a checkpoint that were made up after a loss, as its lineage says.
struct ApproximateTensors {
    /// By name, with what each was made of.
    let all: [(name: String, origin: String)]

    var isEmpty: Bool { all.isEmpty }
    var names: [String] { all.map(\.name) }

    /// What was found in the checkpoint's lineage, which safetensors files keep as text.
    init(of reader: any CheckpointReader, lineage: Lineage?) {
        guard lineage == nil, case .string(let text)? = reader.metadata.first(where: { $0.name == "cairn.lineage" })?.value else {
            self.init(lineage)
            return
        }
        // Text of others that is no lineage says nothing.
        let members = (try? JSONValue(parsing: text).asObject().object("details").object("approximate"))?.members
        self.init(
            all: (members ?? []).compactMap { member in
                guard let origin = try? member.value.asString() else { return nil }
                return (member.key, origin)
            })
    }

    private init(all: [(name: String, origin: String)]) { self.all = all }

    init(_ lineage: Lineage?) {
        guard case .dictionary(let origins)? = lineage?.details["approximate"] else {
            self.init(all: [])
            return
        }
        self.init(
            all: origins.sorted { ExactString($0.key) < ExactString($1.key) }.compactMap { name, value in
                if case .string(let origin) = value { (name, origin) } else { nil }
            })
    }

    /// `2 tensors were made up after a loss: "a", "b"`
    var text: String { "\(NumberText.count(all.count, "tensor")) made up after a loss: \(NameList.text(names))" }

    /// `[{"fqn": …, "from": …}]`
    var document: JSONValue { .array(all.map { ["fqn": .string($0.name), "from": .string($0.origin)] }) }
}
