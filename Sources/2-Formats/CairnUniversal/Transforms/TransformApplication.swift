import CairnBase
import CairnCheckpoint
import CairnTensor

/// Tensors on their way through a rule's transforms: a row for each slot, in it the tensors side by side.
typealias TensorRows = [[any TensorView]]

/// Applies a rule's transforms, there and back.
struct TransformApplication {
    let context: EvaluationContext
    /// Where casts note what they lose.
    let recorder: LossRecorder

    /// From foreign to logical.
    ///
    /// - Parameter outputCount: How many logical names the rule has.
    func forward(_ rows: TensorRows, _ transforms: [RuleTransform], outputCount: Int) throws(CairnError) -> TensorRows {
        var rows = rows
        for transform in transforms {
            switch transform {
            case .split(let parts):
                rows = try map(rows) { row throws(CairnError) in
                    try split(row, parts, count: parts.sizes?.count ?? outputCount)
                }
            case .fuse(let parts): rows = try map(rows) { row throws(CairnError) in try fuse(row, parts) }
            case .stack(let axis, _): rows = try stack(rows, axis)
            case .unstack(let axis, _): rows = try unstack(rows, axis)
            case .copy(let copies): rows = try copy(rows, copies)
            case .permute(let order):
                rows = try each(rows) { tensor throws(CairnError) in
                    try permute(tensor, order)
                }
            case .cast(let from, let to):
                rows = try each(rows) { tensor throws(CairnError) in
                    try cast(tensor, expecting: from, to: to)
                }
            case .strip(let padding):
                rows = try each(rows) { tensor throws(CairnError) in
                    try strip(tensor, padding)
                }
            case .pad(let padding): rows = try each(rows) { tensor throws(CairnError) in try pad(tensor, padding) }
            }
        }
        return rows
    }

    /// From logical to foreign.
    ///
    /// - Parameter inputCount: How many foreign names the rule has.
    func backward(_ rows: TensorRows, _ transforms: [RuleTransform], inputCount: Int) throws(CairnError) -> TensorRows {
        var rows = rows
        for transform in transforms.reversed() {
            switch transform {
            case .split(let parts): rows = try map(rows) { row throws(CairnError) in try fuse(row, parts) }
            case .fuse(let parts):
                rows = try map(rows) { row throws(CairnError) in
                    try split(row, parts, count: parts.sizes?.count ?? inputCount)
                }
            case .stack(let axis, _): rows = try unstack(rows, axis)
            case .unstack(let axis, _): rows = try stack(rows, axis)
            case .copy(let copies): rows = try original(rows, copies)
            case .permute(let order):
                var inverse = order
                for (index, dimension) in order.enumerated() { inverse[dimension] = index }
                rows = try each(rows) { [inverse] tensor throws(CairnError) in try permute(tensor, inverse) }
            case .cast(let from, let to):
                rows = try each(rows) { tensor throws(CairnError) in
                    try cast(tensor, expecting: to, to: from ?? to)
                }
            case .strip(let padding): rows = try each(rows) { tensor throws(CairnError) in try pad(tensor, padding) }
            case .pad(let padding): rows = try each(rows) { tensor throws(CairnError) in try strip(tensor, padding) }
            }
        }
        return rows
    }

    private func map(
        _ rows: TensorRows, _ body: ([any TensorView]) throws(CairnError) -> [any TensorView]
    ) throws(CairnError) -> TensorRows {
        var result: TensorRows = []
        for row in rows { result.append(try body(row)) }
        return result
    }

    private func each(
        _ rows: TensorRows, _ body: (any TensorView) throws(CairnError) -> any TensorView
    ) throws(CairnError) -> TensorRows {
        try map(rows) { row throws(CairnError) in
            var result: [any TensorView] = []
            for tensor in row { result.append(try body(tensor)) }
            return result
        }
    }

    private func split(
        _ row: [any TensorView], _ parts: RuleTransform.Parts, count: Int
    ) throws(CairnError) -> [any TensorView] {
        guard row.count == 1, let fused = row.first else {
            throw CairnError(.mismatch, "a split needs one tensor", .init(found: "\(row.count)"))
        }
        try check(parts.dimension, of: fused.shape)
        let extent = fused.shape[parts.dimension]
        let groups = try context.number(parts.groups, of: "the number of groups", atLeast: 1)
        let sizes: [Int]
        if let given = parts.sizes {
            sizes = try context.numbers(given)
        } else {
            guard let total = groups.multiplied(checked: count), extent % total == 0 else {
                throw CairnError(
                    .mismatch, "a dimension does not split into equal parts",
                    .init(expected: "a multiple of \(groups) * \(count)", found: "\(fused.shape)"))
            }
            sizes = [Int](repeating: extent / total, count: count)
        }
        let geometry = try PartsGeometry(dimension: parts.dimension, sizes: sizes, groups: groups)
        guard geometry.extent == extent else {
            throw CairnError(
                .mismatch, "the parts do not make up the dimension that is split",
                .init(
                    expected: "\(groups) * (\(sizes.map(String.init).joined(separator: " + "))) = \(geometry.extent)",
                    found: "extent \(extent) of \(fused.shape)"))
        }
        var result: [any TensorView] = []
        for part in sizes.indices {
            result.append(
                MappedView([fused], try PartMapping(geometry, part: part, ofFused: fused.shape), fused.scalarType))
        }
        return result
    }

    private func fuse(
        _ row: [any TensorView], _ parts: RuleTransform.Parts
    ) throws(CairnError) -> [any TensorView] {
        guard let first = row.first else { throw CairnError(.mismatch, "nothing is to be fused") }
        let dimension = parts.dimension
        try check(dimension, of: first.shape)
        let groups = try context.number(parts.groups, of: "the number of groups", atLeast: 1)
        var sizes: [Int] = []
        for tensor in row {
            let others =
                try (tensor.shape.dimensionCount == first.shape.dimensionCount)
                ? tensor.shape.replacing(dimension, with: 1) : tensor.shape
            guard tensor.scalarType == first.scalarType, try others == first.shape.replacing(dimension, with: 1) else {
                throw CairnError(
                    .mismatch,
                    "tensors that are fused differ in type, or in more than the dimension along which they are",
                    .init(
                        expected: "\(first.scalarType)\(first.shape) but for dimension \(dimension)",
                        found: "\(tensor.scalarType)\(tensor.shape)"))
            }
            guard tensor.shape[dimension] % groups == 0 else {
                throw CairnError(
                    .mismatch, "a part does not divide into its groups",
                    .init(expected: "a multiple of \(groups)", found: "\(tensor.shape)"))
            }
            sizes.append(tensor.shape[dimension] / groups)
        }
        if let given = parts.sizes {
            let expected = try context.numbers(given)
            guard expected == sizes else {
                throw CairnError(
                    .mismatch, "the parts have other sizes than the rule says",
                    .init(expected: "\(expected) in each of \(groups) groups", found: "\(sizes)"))
            }
        }
        let geometry = try PartsGeometry(dimension: dimension, sizes: sizes, groups: groups)
        return [MappedView(row, try FusedMapping(geometry, part: first.shape), first.scalarType)]
    }

    private func stack(_ rows: TensorRows, _ axis: Int) throws(CairnError) -> TensorRows {
        guard let first = rows.first else { throw CairnError(.mismatch, "nothing is to be stacked") }
        var result: [any TensorView] = []
        for column in first.indices {
            let slots = rows.map { $0[column] }
            let model = slots[0]
            guard axis >= 0, axis <= model.shape.dimensionCount else {
                throw CairnError(
                    .mismatch, "the new axis of a stack is out of range", .init(found: "axis \(axis) of \(model.shape)")
                )
            }
            if let other = slots.first(where: { $0.shape != model.shape || $0.scalarType != model.scalarType }) {
                throw CairnError(
                    .mismatch, "tensors that are stacked differ",
                    .init(expected: "\(model.scalarType)\(model.shape)", found: "\(other.scalarType)\(other.shape)"))
            }
            result.append(
                MappedView(
                    slots, try StackMapping(axis: axis, count: slots.count, element: model.shape), model.scalarType))
        }
        return [result]
    }

    private func unstack(_ rows: TensorRows, _ axis: Int) throws(CairnError) -> TensorRows {
        guard rows.count == 1, let row = rows.first, let first = row.first else {
            throw CairnError(.mismatch, "only one tensor at a time is taken apart along an axis")
        }
        try check(axis, of: first.shape)
        let count = first.shape[axis]
        guard count <= 1 << 20, row.allSatisfy({ $0.shape.dimensionCount > axis && $0.shape[axis] == count }) else {
            throw CairnError(
                .mismatch, "the axis that is taken apart has different or too many slots", .init(found: "\(count)"))
        }
        var result: TensorRows = []
        for slot in 0..<count {
            var slices: [any TensorView] = []
            for tensor in row {
                slices.append(
                    MappedView(
                        [tensor], try SlotMapping(axis: axis, slot: slot, ofStacked: tensor.shape), tensor.scalarType))
            }
            result.append(slices)
        }
        return result
    }

    /// The numbers of copies and of parts.
    func counts(_ copies: RuleTransform.Copies) throws(CairnError) -> (copies: Int, parts: Int) {
        let count = try context.number(copies.count, of: "the number of copies", atLeast: 1)
        let parts = try context.number(copies.parts, of: "the number of parts", atLeast: 1)
        guard count <= CompiledRule.greatestSlotCount, count % parts == 0 else {
            throw CairnError(
                .mismatch, "there cannot be so many copies",
                .init(expected: "a multiple of \(parts), at most \(CompiledRule.greatestSlotCount)", found: "\(count)"))
        }
        return (count, parts)
    }

    private func copy(_ rows: TensorRows, _ copies: RuleTransform.Copies) throws(CairnError) -> TensorRows {
        guard rows.count == 1, let row = rows.first else {
            throw CairnError(.mismatch, "only one tensor at a time is copied")
        }
        let (count, parts) = try counts(copies)
        var columns: TensorRows = []
        for tensor in row {
            columns.append(
                parts == 1
                    ? [tensor] : try split([tensor], .init(dimension: copies.dimension), count: parts))
        }
        return (0..<count).map { slot in columns.map { $0[slot % parts] } }
    }

    /// The way back: what the first copies are made of.
    private func original(_ rows: TensorRows, _ copies: RuleTransform.Copies) throws(CairnError) -> TensorRows {
        let (count, parts) = try counts(copies)
        guard rows.count == count, let first = rows.first else {
            throw CairnError(
                .mismatch, "there are not as many copies as the rule says",
                .init(expected: "\(count)", found: "\(rows.count)"))
        }
        guard parts > 1 else { return [first] }
        var row: [any TensorView] = []
        for column in first.indices {
            row += try fuse(rows[..<parts].map { $0[column] }, .init(dimension: copies.dimension))
        }
        return [row]
    }

    private func permute(_ tensor: any TensorView, _ order: [Int]) throws(CairnError) -> any TensorView {
        guard tensor.shape.dimensionCount == order.count else {
            throw CairnError(
                .mismatch, "a permutation has another number of dimensions than its tensor",
                .init(expected: "\(order.count)", found: "\(tensor.shape)"))
        }
        return try TransposedView(tensor, order: order)
    }

    private func cast(
        _ tensor: any TensorView, expecting: ScalarType?, to type: ScalarType
    ) throws(CairnError) -> any TensorView {
        if let expecting, tensor.scalarType != expecting {
            throw CairnError(
                .mismatch, "a tensor has another type than the rule casts",
                .init(expected: "\(expecting)", found: "\(tensor.scalarType)"))
        }
        guard ScalarConversion.isSupported(from: tensor.scalarType, to: type) else {
            throw CairnError(.unsupported, "\(tensor.scalarType) does not convert to \(type)")
        }
        guard type.byteCount(elementCount: tensor.shape.elementCount) != nil else {
            throw CairnError(.unsupported, "the converted tensor is too large")
        }
        return tensor.scalarType == type ? tensor : CastView(tensor, to: type, recorder: recorder)
    }

    private func strip(
        _ tensor: any TensorView, _ padding: RuleTransform.Padding
    ) throws(CairnError) -> any TensorView {
        let (extent, padded) = try extents(padding, tensor.shape)
        let found = tensor.shape[padding.dimension]
        guard padded.map({ $0 == found }) ?? (found >= extent) else {
            throw CairnError(
                .mismatch, "the padded dimension has another extent than the rule says",
                .init(expected: padded.map { "\($0)" } ?? "at least \(extent)", found: "\(tensor.shape)"))
        }
        let shape = try tensor.shape.replacing(padding.dimension, with: extent)
        return MappedView([tensor], try WindowMapping(Region(whole: shape), of: tensor.shape), tensor.scalarType)
    }

    private func pad(
        _ tensor: any TensorView, _ padding: RuleTransform.Padding
    ) throws(CairnError) -> any TensorView {
        let (extent, padded) = try extents(padding, tensor.shape)
        guard tensor.shape[padding.dimension] == extent else {
            throw CairnError(
                .mismatch, "the dimension that is padded has another extent than the rule says",
                .init(expected: "\(extent)", found: "\(tensor.shape)"))
        }
        let shape = try tensor.shape.replacing(padding.dimension, with: padded ?? extent)
        return MappedView([tensor], PaddedMapping(shape: shape, original: tensor.shape), tensor.scalarType)
    }

    private func extents(
        _ padding: RuleTransform.Padding, _ shape: Shape
    ) throws(CairnError) -> (extent: Int, padded: Int?) {
        try check(padding.dimension, of: shape)
        let extent = try context.number(padding.extent, of: "an extent", atLeast: 0)
        guard let expression = padding.multiple else { return (extent, nil) }
        let multiple = try context.number(expression, of: "a multiple", atLeast: 1)
        guard let padded = extent.roundedUp(toMultipleOf: multiple) else {
            throw CairnError(.invalidArgument, "a padded extent overflows")
        }
        return (extent, padded)
    }

    private func check(_ dimension: Int, of shape: Shape) throws(CairnError) {
        guard shape.extents.indices.contains(dimension) else {
            throw CairnError(
                .mismatch, "the tensor lacks the dimension that the rule names",
                .init(expected: "dimension \(dimension)", found: "\(shape)"))
        }
    }
}
