import CairnBase
import CairnCheckpoint
import CairnLayout
import CairnTensor

/// What `cairn inspect` found, as text and as JSON.
struct InspectionReport {
    /// As the user named it.
    let path: String
    let opened: OpenedCheckpoint
    /// The weights that are stored as codes.
    let quantised: QuantisedWeights
    let shown: [TensorDescription]
    /// Whether tensors were asked for by name, so that the rest is not of interest.
    let isSelection: Bool
    /// For each shown tensor, where they were asked for.
    let statistics: [TensorStatistics?]?
    /// What single ranks had alone.
    let rankValues: [RankValues]
    /// What is in files of earlier saves.
    let earlier: EarlierParts

    private struct TypeTotal {
        var scalarType: ScalarType
        var tensorCount = 0
        var elementCount = 0
        var byteCount = 0
    }

    private var parts: GraftedParts { GraftedParts(of: opened.reader, lineage: opened.manifest?.lineage) }

    private var approximate: ApproximateTensors {
        ApproximateTensors(of: opened.reader, lineage: opened.manifest?.lineage)
    }

    private var all: [TensorDescription] { opened.reader.tensors }

    /// Tied tensors are stored once and counted once.
    private var stored: [TensorDescription] { all.filter { $0.tiedTo == nil } }

    private var totals: [TypeTotal] {
        var totals: [ScalarType: TypeTotal] = [:]
        for tensor in stored {
            var total = totals[tensor.scalarType] ?? TypeTotal(scalarType: tensor.scalarType)
            total.tensorCount += 1
            total.elementCount = total.elementCount.adding(clamped: tensor.shape.elementCount)
            total.byteCount = total.byteCount.adding(clamped: tensor.byteCount)
            totals[tensor.scalarType] = total
        }
        return totals.values.sorted { ($1.byteCount, $0.scalarType.rawValue) < ($0.byteCount, $1.scalarType.rawValue) }
    }

    /// Prints for a person.
    func printText() throws {
        if !isSelection { try printSummary() }
        if !shown.isEmpty {
            for line in tensorTable.lines() { try StandardOutput.line(line) }
        }
        guard !isSelection else { return }
        try printValues("VALUE", opened.reader.values)
        if !rankValues.isEmpty {
            try StandardOutput.line("")
            var table = Table([
                .init(title: "RANK"), .init(title: "VALUE", isFlexible: true), .init(title: "", isFlexible: true),
            ])
            for of in rankValues {
                for value in of.values {
                    table.append([.init(of.location), .init(value.name), .init(ValueText.describe(value.value))])
                }
            }
            for line in table.lines() { try StandardOutput.line(line) }
        }
        try printValues("METADATA", opened.reader.metadata)
    }

    private func printValues(_ title: String, _ values: [NamedValue]) throws {
        guard !values.isEmpty else { return }
        try StandardOutput.line("")
        var table = Table([.init(title: title, isFlexible: true), .init(title: "", isFlexible: true)])
        for value in values { table.append([.init(value.name), .init(ValueText.describe(value.value))]) }
        for line in table.lines() { try StandardOutput.line(line) }
    }

    private func printSummary() throws {
        var facts: [(String, String)] = [("source", path), ("format", opened.description)]
        if let manifest = opened.manifest {
            facts.append(("step", String(manifest.step)))
            facts.append(("time", TimeText.iso(manifest.time) ?? String(manifest.time)))
            facts.append(("ranks", String(manifest.files.count)))
            if let mesh = MeshText.describe(manifest.meshes) { facts.append(("mesh", mesh)) }
            facts.append(("producer", manifest.producer))
            facts.append(("save id", manifest.saveID.description))
            if !manifest.metrics.isEmpty { facts.append(("metrics", MetricsText.describe(manifest.metrics))) }
            if let lineage = manifest.lineage { facts.append(("lineage", LineageText.describe(lineage))) }
        }
        let (elementCount, byteCount) = (stored.totalElementCount, stored.totalByteCount)
        let tied = all.count - stored.count
        facts.append(
            (
                "tensors",
                "\(all.count)" + (tied > 0 ? " (\(tied) tied)" : "")
                    + ", \(NumberText.grouped(elementCount)) elements, \(ByteCountText.describe(byteCount))"
            ))
        for total in totals {
            facts.append(
                (
                    total.scalarType.rawValue,
                    "\(NumberText.count(total.tensorCount, "tensor")), \(NumberText.count(total.elementCount, "element")), "
                        + ByteCountText.describe(total.byteCount)
                ))
        }
        if !quantised.isEmpty { facts.append(("quantised", quantised.description)) }
        if !approximate.isEmpty { facts.append(("approximate", approximate.text)) }
        if !parts.isEmpty { facts.append(("grafted", parts.text)) }
        if !earlier.isEmpty { facts.append(("refers to", earlier.text)) }
        let width = facts.reduce(0) { max($0, $1.0.count) }
        for (name, text) in facts {
            let padding = String(repeating: " ", count: width - name.count + 2)
            try StandardOutput.line(Emphasis.faint.apply(name) + padding + PrintableText.escape(text))
        }
        try StandardOutput.line("")
    }

    private var tensorTable: Table {
        var columns: [Table.Column] = [
            .init(title: "TENSOR", isFlexible: true), .init(title: "DTYPE"), .init(title: "SHAPE"),
            .init(title: "SIZE", alignment: .right),
        ]
        let layouts = layoutTexts
        if !layouts.isEmpty { columns.append(.init(title: "LAYOUT", isFlexible: true)) }
        if !earlier.isEmpty { columns.append(.init(title: "SINCE", alignment: .right)) }
        if statistics != nil {
            columns += ["MIN", "MAX", "MEAN", "STD", "NAN", "INF", "ZERO"].map { .init(title: $0, alignment: .right) }
        }
        var table = Table(columns)
        for (index, tensor) in shown.enumerated() {
            let size = tensor.tiedTo == nil ? ByteCountText.describe(tensor.byteCount) : "tied"
            var cells: [Table.Cell] = [
                .init(tensor.tiedTo.map { "\(tensor.name) = \($0)" } ?? tensor.name),
                .init(tensor.scalarType.rawValue), .init(tensor.shape.description), .init(size),
            ]
            if !layouts.isEmpty { cells.append(.init(layouts[ExactString(tensor.name)] ?? "-")) }
            if !earlier.isEmpty { cells.append(.init(earlier.text(of: tensor.tiedTo ?? tensor.name))) }
            if let statistics { cells += Self.cells(statistics[index]) }
            table.append(cells)
        }
        return table
    }

    /// How the tensors that have a layout lie on the ranks, by name.
    private var layoutTexts: [ExactString: String] {
        var texts: [ExactString: String] = [:]
        guard let manifest = opened.manifest else {
            for tensor in shown where pieces(of: tensor.name).count > 1 {
                texts[ExactString(tensor.name)] = PieceText.describe(pieces(of: tensor.name))
            }
            return texts
        }
        guard !manifest.layouts.isEmpty else { return [:] }
        for tensor in manifest.tensors {
            if let index = tensor.layout { texts[ExactString(tensor.name)] = manifest.layouts[index].description }
        }
        return texts
    }

    /// In which pieces another format stores a tensor; none where it does not say.
    private func pieces(of name: String) -> [StoredPiece] {
        // What cannot be told is left out here and an error where the tensor is read.
        (try? opened.reader.storedPieces(of: name)) ?? []
    }

    private static func cells(_ statistics: TensorStatistics?) -> [Table.Cell] {
        guard let statistics else { return [Table.Cell](repeating: "-", count: 7) }
        func cell(_ value: Double?) -> Table.Cell { .init(value.map(NumberText.short) ?? "-") }
        func cell(_ count: Int, _ emphasis: Emphasis?) -> Table.Cell {
            .init(String(count), count > 0 ? emphasis : nil)
        }
        return [
            cell(statistics.range?.minimum), cell(statistics.range?.maximum), cell(statistics.mean),
            cell(statistics.standardDeviation), cell(statistics.nanCount, .bad),
            cell(statistics.infiniteCount, .bad), cell(statistics.zeroCount, nil),
        ]
    }

    /// Prints `cairn-inspect/1`.
    func printDocument() throws {
        var document: JSONObject = [
            "format": .string(opened.reader.format), "source": .string(path),
        ]
        if let manifest = opened.manifest {
            document["step"] = .count(manifest.step)
            document["time"] = .number(manifest.time)
            document["time_iso"] = .optional(TimeText.iso(manifest.time))
            document["ranks"] = .count(manifest.files.count)
            document["meshes"] = .array(manifest.meshes.map { .string($0.description) })
            document["producer"] = .string(manifest.producer)
            document["save_id"] = .string(manifest.saveID.description)
            document["metrics"] = .metrics(manifest.metrics)
            document["lineage"] = manifest.lineage.map { .lineage($0) } ?? .null
        }
        document["totals"] = [
            "tensors": .count(all.count), "stored_tensors": .count(stored.count),
            "elements": .count(stored.totalElementCount),
            "bytes": .count(stored.totalByteCount),
        ]
        document["dtypes"] = .array(
            totals.map { total in
                [
                    "dtype": .string(total.scalarType.rawValue), "tensors": .count(total.tensorCount),
                    "elements": .count(total.elementCount), "bytes": .count(total.byteCount),
                ]
            })
        if !quantised.isEmpty { document["quantised"] = quantisedDocument }
        if !approximate.isEmpty { document["approximate"] = approximate.document }
        if !parts.isEmpty { document["grafted"] = parts.document }
        if !earlier.isEmpty { document["earlier_files"] = earlier.document }
        let layouts = layoutTexts
        document["tensors"] = .array(shown.indices.map { tensorDocument($0, layouts) })
        document["values"] = try Self.document(opened.reader.values)
        if !rankValues.isEmpty {
            document["rank_values"] = .array(
                try rankValues.map { of in
                    let mesh = of.mesh.flatMap { $0.axes.isEmpty ? nil : $0 }
                    let coordinates = mesh.map { mesh in
                        JSONValue.object(
                            zip(mesh.axes, mesh.coordinates(ofRank: of.rank)).reduce(into: JSONObject()) {
                                $0[$1.0.name] = .count($1.1)
                            })
                    }
                    return [
                        "rank": .count(of.rank), "coordinates": coordinates ?? .null,
                        "values": try Self.document(of.values),
                    ]
                })
        }
        if opened.manifest == nil { document["metadata"] = try Self.document(opened.reader.metadata) }
        try ResultDocument.print(schema: "cairn-inspect/1", document)
    }

    /// Which weights are stored as codes, and of what each is made.
    private var quantisedDocument: JSONValue {
        [
            "schemes": .array(
                quantised.counts.map { ["scheme": .string($0.scheme.rawValue), "weights": .count($0.count)] }),
            "configured": .optional(quantised.details),
            "weights": .array(
                quantised.weights.map { weight in
                    [
                        "name": .string(weight.name), "scheme": .string(weight.scheme.rawValue),
                        "codes": .strings(weight.codes), "companions": .strings(weight.companions),
                    ]
                }),
        ]
    }

    private static func document(_ values: [NamedValue]) throws -> JSONValue {
        .array(try values.map { ["name": .string($0.name), "value": try ValueCoding.json($0.value)] })
    }

    private func tensorDocument(_ index: Int, _ layouts: [ExactString: String]) -> JSONValue {
        let tensor = shown[index]
        var object: JSONObject = [
            "fqn": .string(tensor.name), "dtype": .string(tensor.scalarType.rawValue), "shape": .shape(tensor.shape),
            "bytes": .count(tensor.byteCount),
        ]
        if let target = tensor.tiedTo { object["tied_to"] = .string(target) }
        if let layout = layouts[ExactString(tensor.name)] { object["layout"] = .string(layout) }
        if let age = earlier.ages[ExactString(tensor.tiedTo ?? tensor.name)] {
            object["since"] = .array([.count(age.lowerBound), .count(age.upperBound)])
        }
        if opened.manifest == nil, case let pieces = pieces(of: tensor.name), pieces.count > 1 {
            object["pieces"] = .array(
                pieces.map { piece in
                    [
                        "offsets": .array(piece.region.offsets.map { .count($0) }), "shape": .shape(piece.region.shape),
                        "file": .string(piece.file),
                    ]
                })
        }
        guard let statistics else { return .object(object) }
        guard let statistics = statistics[index] else {
            object["stats"] = .null
            return .object(object)
        }
        func number(_ value: Double?) -> JSONValue { value.map { .number($0) } ?? .null }
        object["stats"] = [
            "min": number(statistics.range?.minimum), "max": number(statistics.range?.maximum),
            "mean": number(statistics.mean), "std": number(statistics.standardDeviation),
            "nan": .count(statistics.nanCount), "inf": .count(statistics.infiniteCount),
            "zero": .count(statistics.zeroCount),
        ]
        return .object(object)
    }
}
