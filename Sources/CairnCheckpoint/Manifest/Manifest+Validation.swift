package import CairnBase
package import CairnTensor

extension Manifest {
    /// Checks what a syntactically correct manifest may still get wrong.
    func validate() throws(CairnError) {
        try validateFiles()
        try requireAscending(tensors.map(\.name), "tensors")
        try requireAscending(ties.map(\.name), "ties")
        try requireAscending(values.map(\.name), "values")
        var names = Set<ExactString>()
        for tensor in tensors {
            names.insert(ExactString(tensor.name))
            do throws(CairnError) {
                guard tensor.scalarType.byteCount(elementCount: tensor.shape.elementCount) != nil else {
                    throw CairnError(
                        .malformed, "the elements do not fill a representable number of whole bytes",
                        .init(found: "\(tensor.scalarType)\(tensor.shape)"))
                }
                for fragment in tensor.fragments where !files.indices.contains(fragment.file) {
                    throw CairnError(
                        .malformed, "a fragment is in a file that is not listed",
                        .init(expected: "0..<\(files.count)", found: "\(fragment.file)"))
                }
                try FragmentCoverage.check(tensor.fragments.map(\.region), of: tensor.shape)
            } catch {
                throw error.adding(.init(tensor: tensor.name))
            }
        }
        for tie in ties {
            guard names.contains(ExactString(tie.target)), !names.contains(ExactString(tie.name)) else {
                throw CairnError(
                    .malformed, "a tie does not lead from a new name to a stored tensor",
                    .init(tensor: tie.name, found: tie.target))
            }
        }
        for value in values where names.contains(ExactString(value.name)) {
            throw CairnError(.malformed, "a name stands for a tensor and a value", .init(tensor: value.name))
        }
    }

    private func validateFiles() throws(CairnError) {
        var names = Set<ExactString>()
        var total = Self.maximumByteCount
        for (index, file) in files.enumerated() {
            guard !file.name.isEmpty, file.name.utf8.allSatisfy({ $0 > 0x20 && $0 != UInt8(ascii: "/") }),
                file.name != ".", file.name != "..", names.insert(ExactString(file.name)).inserted
            else {
                throw CairnError(.malformed, "a file name is not allowed here", .init(found: file.name))
            }
            guard file.rank == index else {
                throw CairnError(
                    .malformed, "the files are not in the order of ranks",
                    .init(expected: "rank \(index)", found: "rank \(file.rank)"))
            }
            guard file.headerByteCount >= 8, file.byteCount >= file.headerByteCount else {
                throw CairnError(
                    .malformed, "a file's sizes contradict each other",
                    .init(found: "\(file.headerByteCount) of \(file.byteCount) bytes are header"))
            }
            guard let sum = total.adding(checked: file.byteCount) else {
                throw CairnError(.malformed, "the files are larger together than any storage", .init(found: file.name))
            }
            total = sum
        }
    }

    private func requireAscending(_ names: [String], _ what: String) throws(CairnError) {
        for (first, second) in zip(names, names.dropFirst()) where !(ExactString(first) < ExactString(second)) {
            throw CairnError(.malformed, "the \(what) are not sorted, or one stands twice", .init(tensor: second))
        }
    }
}

/// Whether fragments make up a tensor: each inside it, no element twice, none missing.
package enum FragmentCoverage {
    /// - Throws: ``CairnError/Code/malformed`` for a fragment outside or an overlap, ``CairnError/Code/incomplete`` when
    ///   elements are missing.
    package static func check(_ regions: [Region], of shape: Shape) throws(CairnError) {
        var covered = 0
        for region in regions {
            guard region.isInside(shape) else {
                throw CairnError(
                    .malformed, "a fragment lies outside its tensor",
                    .init(expected: "inside \(shape)", found: "\(region)"))
            }
            // Disjoint regions inside the tensor cannot add up beyond its element count; overlapping ones might overflow.
            guard let sum = covered.adding(checked: region.elementCount) else {
                throw CairnError(.malformed, "the fragments of a tensor overlap")
            }
            covered = sum
        }
        if let (first, second) = overlap(regions) {
            throw CairnError(.malformed, "two fragments overlap", .init(found: "\(first) and \(second)"))
        }
        guard covered == shape.elementCount else {
            throw CairnError(
                .incomplete, "the fragments do not cover the tensor",
                .init(expected: "\(shape.elementCount) elements", found: "\(covered)"))
        }
    }

    /// Two of the regions that share an element, or `nil`. Sweeps along the first dimension in which the starts differ, so
    /// that the usual grids cost little more than a sort.
    private static func overlap(_ regions: [Region]) -> (Region, Region)? {
        let solid = regions.filter { $0.elementCount > 0 }
        guard let first = solid.first, solid.count > 1 else { return nil }
        guard first.shape.dimensionCount > 0 else { return (solid[0], solid[1]) }
        let axis = first.offsets.indices.max { left, right in
            Set(solid.map { $0.offsets[left] }).count < Set(solid.map { $0.offsets[right] }).count
        } ?? 0
        let sorted = solid.sorted { $0.offsets[axis] < $1.offsets[axis] }
        var active: [Region] = []
        for region in sorted {
            active.removeAll { $0.offsets[axis] + $0.shape[axis] <= region.offsets[axis] }
            for other in active where other.intersection(region) != nil { return (other, region) }
            active.append(region)
        }
        return nil
    }
}
