import CairnBase
import CairnTensor

extension Manifest {
    /// Checks what a syntactically correct manifest may still get wrong.
    func validate() throws(CairnError) {
        try validateFiles()
        try requireAscending(tensors.map(\.name), "tensors")
        try requireAscending(ties.map(\.name), "ties")
        try requireAscending(values.map(\.name), "values")
        var names = Set<ExactString>()
        var bits = 0
        for tensor in tensors {
            names.insert(ExactString(tensor.name))
            do throws(CairnError) {
                guard tensor.scalarType.byteCount(elementCount: tensor.shape.elementCount) != nil else {
                    throw CairnError(
                        .malformed, "the elements do not fill a representable number of whole bytes",
                        .init(found: "\(tensor.scalarType)\(tensor.shape)"))
                }
                // Counted in bits, so that whatever is computed of parts of them, and of all of them, fits.
                guard let more = tensor.shape.elementCount.multiplied(checked: tensor.scalarType.bitWidth),
                    let sum = bits.adding(checked: more)
                else {
                    throw CairnError(
                        .malformed, "the tensors are larger together than any storage",
                        .init(expected: "less than 2^60 bytes", found: "\(tensor.scalarType)\(tensor.shape)"))
                }
                bits = sum
                guard tensor.layout == nil else { continue }
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
        try validateLayouts()
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
