import CairnBase
import CairnCheckpoint
import CairnTensor

/// A rank's checkpoint with its flat buffers taken apart: each member is a tensor of one dimension.
struct UnpackedReader: CheckpointView {
    let base: any CheckpointReader
    let tensors: [TensorDescription]
    /// Where a member is.
    private let members: [ExactString: (buffer: String, start: Int)]

    var values: [NamedValue] { base.values }

    /// - Throws: ``CairnError/Code/notFound`` for a buffer that the rank lacks, ``CairnError/Code/mismatch`` for one of
    ///   another size or a member whose name is taken.
    init(_ base: any CheckpointReader, buffers: [BoundBuffers.Local], rank: Int) throws(CairnError) {
        self.base = base
        var tensors = base.tensors
        var members: [ExactString: (buffer: String, start: Int)] = [:]
        for local in buffers {
            let name = local.buffer.name
            guard let position = tensors.firstIndex(where: { ExactString($0.name) == ExactString(name) }) else {
                throw CairnError(
                    .notFound, "the rank lacks a flat buffer of the rules",
                    .init(file: base.source, tensor: name, rank: rank))
            }
            let tensor = tensors.remove(at: position)
            guard tensor.shape.dimensionCount == 1,
                tensor.shape[0] == local.count || (tensor.shape[0] >= local.usedCount && tensor.shape[0] <= local.count)
            else {
                throw CairnError(
                    .mismatch, "a flat buffer has another size than its members make up",
                    .init(
                        file: base.source, tensor: name, rank: rank, expected: "[\(local.count)]",
                        found: "\(tensor.shape)", advice: "check the members' shapes, the alignment and the padding"))
            }
            for member in local.members {
                members[ExactString(member.name)] = (name, member.local.lowerBound)
                tensors.append(
                    TensorDescription(
                        name: member.name, scalarType: tensor.scalarType, shape: [member.local.count]))
            }
        }
        tensors.sort { ExactString($0.name) < ExactString($1.name) }
        for (tensor, next) in zip(tensors, tensors.dropFirst()) where ExactString(tensor.name) == ExactString(next.name)
        {
            throw CairnError(
                .mismatch, "a member of a flat buffer is a tensor of the rank too",
                .init(file: base.source, tensor: tensor.name, rank: rank))
        }
        self.tensors = tensors
        self.members = members
    }

    func baseName(of name: String) throws(CairnError) -> String? { members[ExactString(name)] == nil ? name : nil }

    func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        guard let member = members[ExactString(name)] else {
            return try base.read(name, region: region, into: &destination)
        }
        let description = try description(of: name)
        do throws(CairnError) {
            try region.check(inside: description.shape, of: description.scalarType, filling: destination.byteCount)
            try base.read(member.buffer, region: region.shifted(by: [member.start]), into: &destination)
        } catch {
            throw error.adding(.init(file: source, tensor: name))
        }
    }
}
