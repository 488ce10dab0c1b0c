package import CairnBase
package import CairnLayout
package import CairnTensor
import Synchronization

/// A checkpoint's tensors and where their elements are: all that planning a read takes.
package struct CheckpointIndex: Sendable {
    /// What to call the checkpoint in messages.
    package let source: String
    /// Every logical tensor, ties included, sorted by the bytes of its name.
    package let tensors: [TensorDescription]
    /// The tensors and ties, sorted by the bytes of their names.
    private let stored: [Manifest.StoredTensor]
    private let ties: [Manifest.Tie]
    private let fileNames: [String]
    /// Where the fragments are that follow from layouts.
    private let layouts: LayoutIndex?
    /// Where the fragments are that are listed, of tensors with many.
    private let listed = ListedFragments()

    /// What a manifest says.
    ///
    /// - Throws: What a manifest with layouts that do not fit throws.
    init(_ manifest: Manifest, source: String) throws(CairnError) {
        self.init(
            manifest.tensors, manifest.ties, fileNames: manifest.fileNames, try manifest.layoutIndex(), source: source)
    }

    /// A checkpoint that ranks would save under these layouts, without any file: what planning and simulations read from.
    ///
    /// - Throws: What layouts that do not fit throw.
    package init(planned tensors: [PlacedTensor], source: String) throws(CairnError) {
        let placed = tensors.sorted { ExactString($0.name) < ExactString($1.name) }
        var stored: [Manifest.StoredTensor] = []
        for tensor in placed {
            stored.append(.init(name: tensor.name, scalarType: tensor.scalarType, shape: try tensor.storedShape()))
        }
        let plan = try WritePlan(placed)
        self.init(
            stored, [], fileNames: (0..<plan.rankCount).map { "rank \($0)" },
            LayoutIndex(plan: plan, positions: Array(placed.indices)), source: source)
    }

    private init(
        _ stored: [Manifest.StoredTensor], _ ties: [Manifest.Tie], fileNames: [String], _ layouts: LayoutIndex?, source: String
    ) {
        self.stored = stored
        self.ties = ties
        self.fileNames = fileNames
        self.layouts = layouts
        self.source = source
        var descriptions = stored.map { TensorDescription(name: $0.name, scalarType: $0.scalarType, shape: $0.shape) }
        for tie in ties {
            guard let index = Self.index(of: tie.target, in: stored, named: \.name) else { continue }
            let target = stored[index]
            descriptions.append(
                TensorDescription(
                    name: tie.name, scalarType: target.scalarType, shape: target.shape, tiedTo: target.name))
        }
        tensors = descriptions.sorted { ExactString($0.name) < ExactString($1.name) }
    }

    /// The description of a tensor.
    ///
    /// - Throws: ``CairnError/Code/notFound``.
    package func description(of name: String) throws(CairnError) -> TensorDescription {
        tensors[try tensors.requiredPosition(of: name, in: source)]
    }

    /// Where a tensor's elements are: those of its fragments that have any in `region`, or all.
    ///
    /// - Throws: ``CairnError/Code/notFound``.
    package func fragments(
        of name: String, intersecting region: Region?
    ) throws(CairnError) -> [Manifest.Fragment] {
        let index = try storedIndex(name)
        if let fragments = layouts?.fragments(of: stored[index], at: index, intersecting: region) { return fragments }
        let fragments = stored[index].fragments
        guard let region else { return fragments }
        if fragments.count < ListedFragments.leastCount { return fragments.filter { $0.region.overlaps(region) } }
        return listed.index(of: index, fragments).positions(meeting: region).map { fragments[$0] }
    }

    /// The same with the names of the files.
    package func storedPieces(of name: String, in region: Region?) throws(CairnError) -> [StoredPiece] {
        let type = try stored(name).scalarType
        return try fragments(of: name, intersecting: region).map {
            StoredPiece(region: $0.region, file: fileNames[$0.file], scalarType: type)
        }
    }

    /// The tensor that a name or a tie stands for.
    func stored(_ name: String) throws(CairnError) -> Manifest.StoredTensor {
        stored[try storedIndex(name)]
    }

    private func storedIndex(_ name: String) throws(CairnError) -> Int {
        let tie = Self.index(of: name, in: ties, named: \.name)
        let target = tie.map { ties[$0].target } ?? name
        guard let index = Self.index(of: target, in: stored, named: \.name) else {
            throw CairnError.noTensor(name, in: source)
        }
        return index
    }

    /// Where a name is in a list that is sorted by names.
    private static func index<Element>(
        of name: String, in list: [Element], named nameOf: (Element) -> String
    ) -> Int? {
        let wanted = ExactString(name)
        let position = list.firstPosition { !(ExactString(nameOf($0)) < wanted) }
        return position < list.count && ExactString(nameOf(list[position])) == wanted ? position : nil
    }
}

/// Indices of the fragments that a manifest lists, made when they are first asked for: a caller that reads a tensor of a
/// million fragments part by part must not go through all of them for each part.
private final class ListedFragments: Sendable {
    /// Fewer fragments are gone through one by one.
    static let leastCount = 16

    private let indices = Mutex<[Int: RegionIndex]>([:])

    func index(of tensor: Int, _ fragments: [Manifest.Fragment]) -> RegionIndex {
        if let known = indices.withLock({ $0[tensor] }) { return known }
        let made = RegionIndex(fragments.map(\.region))
        indices.withLock { $0[tensor] = made }
        return made
    }
}

extension Manifest {
    /// The requirement that tells readers of layouts.
    static let layoutsRequirement = "layouts"

    /// Lists tensors whose fragments follow from layouts. They are sorted by name.
    ///
    /// - Throws: What a layout that does not fit its tensor throws.
    mutating func place(_ placed: [PlacedTensor]) throws(CairnError) {
        var indices: [Layout: Int] = [:]
        for tensor in placed {
            let index: Int
            if let known = indices[tensor.layout] {
                index = known
            } else {
                index = layouts.count
                indices[tensor.layout] = index
                layouts.append(tensor.layout)
            }
            tensors.append(
                StoredTensor(
                    name: tensor.name, scalarType: tensor.scalarType, shape: try tensor.storedShape(), layout: index))
        }
    }

    /// The tensors whose fragments follow from layouts, in the manifest's order.
    package func placedTensors() throws(CairnError) -> [PlacedTensor] {
        var placed: [PlacedTensor] = []
        for tensor in tensors {
            guard let index = tensor.layout else { continue }
            placed.append(try placedTensor(tensor, index))
        }
        return placed
    }

    private func placedTensor(_ tensor: StoredTensor, _ index: Int) throws(CairnError) -> PlacedTensor {
        guard layouts.indices.contains(index) else {
            throw CairnError(
                .malformed, "a tensor has a layout that is not listed",
                .init(tensor: tensor.name, expected: "0..<\(layouts.count)", found: "\(index)"))
        }
        let layout = layouts[index]
        // Partial values are stacked along a dimension of their own.
        guard !layout.isPartial || tensor.shape.dimensionCount > 0 else {
            throw CairnError(
                .malformed, "a partial tensor has no dimension for its partial values",
                .init(tensor: tensor.name, found: "\(tensor.shape)"))
        }
        let extents = layout.isPartial ? Array(tensor.shape.extents.dropFirst()) : tensor.shape.extents
        return PlacedTensor(
            name: tensor.name, scalarType: tensor.scalarType, shape: try Shape(checking: extents), layout: layout)
    }

    /// Checks that every layout fits its tensor and the files, and leaves no element without a file.
    func validateLayouts() throws(CairnError) {
        struct Applied: Hashable {
            var layout: Int
            var shape: Shape
        }
        // A layout may list very many regions and be that of very many tensors.
        var known: Set<Applied> = []
        for tensor in tensors {
            guard let index = tensor.layout, known.insert(Applied(layout: index, shape: tensor.shape)).inserted else {
                continue
            }
            let placed = try placedTensor(tensor, index)
            do throws(CairnError) {
                guard placed.layout.mesh.rankCount == files.count else {
                    throw CairnError(
                        .malformed, "a layout has another number of ranks than there are files",
                        .init(expected: "\(files.count) ranks", found: "mesh \(placed.layout.mesh)"))
                }
                let sharded = try placed.sharded()
                let stored = try sharded.storedShape()
                guard stored == tensor.shape else {
                    throw CairnError(
                        .malformed, "a tensor has another number of partial values than its layout",
                        .init(expected: "\(stored)", found: "\(tensor.shape)"))
                }
                try sharded.proveCoverage()
            } catch {
                var flaw = error.adding(.init(tensor: tensor.name))
                // To who made the layout it is a wrong argument; in a manifest it is damage.
                if flaw.code == .invalidArgument { flaw.code = .malformed }
                throw flaw
            }
        }
    }

    /// Where the fragments of tensors with layouts are.
    func layoutIndex() throws(CairnError) -> LayoutIndex? {
        let placed = try placedTensors()
        guard !placed.isEmpty else { return nil }
        var positions = [Int?](repeating: nil, count: tensors.count)
        var next = 0
        for index in tensors.indices where tensors[index].layout != nil {
            positions[index] = next
            next += 1
        }
        return LayoutIndex(plan: try WritePlan(placed), positions: positions)
    }

    /// The tables of meshes and layouts, as lines of the manifest. A layout is `[index of its mesh, layout]`.
    func layoutLines() -> [String] {
        var meshes: [DeviceMesh] = []
        var indices: [DeviceMesh: Int] = [:]
        var entries: [String] = []
        for layout in layouts {
            let index = indices[layout.mesh] ?? meshes.count
            if index == meshes.count {
                indices[layout.mesh] = index
                meshes.append(layout.mesh)
            }
            entries.append(text(.array([.integer(Int64(index)), LayoutCoding.json(layout)])))
        }
        let meshTexts = meshes.map { text(LayoutCoding.json($0)) }
        return ["\"meshes\":" + list(meshTexts), "\"layouts\":" + list(entries)]
    }

    /// Reads the tables of meshes and layouts, if there are any.
    static func layouts(_ root: JSONObject) throws -> [Layout] {
        guard root["layouts"] != nil else { return [] }
        let meshes = try root.array("meshes").map { try LayoutCoding.mesh($0) }
        return try root.array("layouts").map { json in
            let entry = try pair(json)
            let index = try entry.0.asInteger()
            guard meshes.indices.contains(index) else {
                throw CairnError(
                    .malformed, "a layout has a mesh that is not listed",
                    .init(expected: "0..<\(meshes.count)", found: "\(index)"))
            }
            return try LayoutCoding.layout(entry.1, on: meshes[index])
        }
    }
}

/// The fragments that follow from a manifest's layouts.
struct LayoutIndex: Sendable {
    let plan: WritePlan
    /// For each tensor of the manifest its index in the plan, if it has a layout.
    let positions: [Int?]

    /// The fragments of a tensor at `index` of the manifest that have elements in a region, or all; `nil` if it has no layout.
    func fragments(
        of tensor: Manifest.StoredTensor, at index: Int, intersecting region: Region?
    ) -> [Manifest.Fragment]? {
        positions[index].map { position in
            let elsewhere = tensor.elsewhere
            return plan.fragments(ofTensor: position, intersecting: region).map { fragment in
                let next = elsewhere.firstPosition { $0.rank >= fragment.rank }
                let isMoved = next < elsewhere.count && elsewhere[next].rank == fragment.rank
                return Manifest.Fragment(file: isMoved ? elsewhere[next].file : fragment.rank, region: fragment.region)
            }
        }
    }
}

extension PlacedTensor {
    /// The shape of what a checkpoint stores. The layout is applied only where that makes another shape.
    func storedShape() throws(CairnError) -> Shape { layout.isPartial ? try sharded().storedShape() : shape }
}

extension Layout {
    /// Whether the layout is partial: the ranks hold parts of a sum or an average.
    var isPartial: Bool {
        steps.contains { if case .partial = $0.placement { true } else { false } }
    }
}
