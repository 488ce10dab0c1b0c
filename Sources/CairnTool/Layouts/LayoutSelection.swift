import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnLayout
import CairnTensor
import CairnUniversal

/// The ranks of a mesh, as the command line writes them: `tp=2,dp=4`.
struct DeviceMeshArgument: ExpressibleByArgument, Sendable {
    let mesh: DeviceMesh

    init?(argument: String) {
        guard let mesh = try? DeviceMesh(parsing: argument) else { return nil }
        self.mesh = mesh
    }

    /// The size of each axis.
    var sizes: [String: Int] {
        Dictionary(mesh.axes.map { ($0.name, $0.size) }, uniquingKeysWith: { first, _ in first })
    }
}

/// A layout for every tensor that needs no rules.
enum ReadyLayout: String, CaseIterable, ExpressibleByArgument {
    case replicated
    case fsdp
    case zero
}

/// Which layouts a checkpoint is to have.
struct LayoutSelection: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "The ranks, as named axes: tp=2,dp=4. With rules their order is the rules', else the last varies fastest.",
            valueName: "axes"))
    var mesh: DeviceMeshArgument

    @Option(help: ArgumentHelp("How tensors lie on the mesh, by their names (Docs/Rules.md).", valueName: "file"))
    var rules: String?

    @Option(help: """
        Instead of rules, one layout for all: replicated; fsdp (the first dimension in chunks, over all axes in turn); \
        zero (flattened and cut over the axis dp, or the only one).
        """)
    var layout: ReadyLayout?

    func validate() throws {
        guard (rules == nil) != (layout == nil) else { throw ValidationError("give either --rules or --layout") }
    }

    /// Every stored tensor of a checkpoint with its layout.
    ///
    /// - Throws: ``CairnError`` for rules that cannot be read or leave a tensor out, and for layouts that do not fit; it
    ///   names the tensor and the rule.
    func tensors(of reader: any CheckpointReader) throws -> [PlacedTensor] {
        if let rules { return try RulesFile.read(rules).placedTensors(of: reader, mesh: mesh.sizes) }
        let stored = reader.tensors.filter { $0.tiedTo == nil }
        return try stored.map { tensor in
            PlacedTensor(
                name: tensor.name, scalarType: tensor.scalarType, shape: tensor.shape,
                layout: try ready(for: tensor))
        }
    }

    private func ready(for tensor: TensorDescription) throws(CairnError) -> Layout {
        let axes = mesh.mesh.axes
        switch layout {
        case .replicated, nil: return .replicated(on: mesh.mesh)
        case .fsdp:
            guard tensor.shape.dimensionCount > 0 else { return .replicated(on: mesh.mesh) }
            return try Layout(mesh.mesh, steps: axes.map { .init($0.name, .shard(0, .chunked)) })
        case .zero:
            guard let axis = axes.first(where: { $0.name == "dp" }) ?? (axes.count == 1 ? axes.first : nil) else {
                throw CairnError(
                    .invalidArgument, "no axis to cut flattened tensors over",
                    .init(expected: "an axis dp, or only one", found: "mesh \(mesh.mesh)"))
            }
            return try Layout(mesh.mesh, [axis.name: .flatten(.perTensor)])
        }
    }
}
