import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor

/// Copies of safetensors files whose tensors do not begin where their types want to: they are valid, but cannot be mapped
/// into memory as they are, and some readers refuse them.
struct AlignmentRepair {
    let path: String

    /// How a file is, or became.
    enum Alignment {
        case intact
        /// So many tensors were moved.
        case copied(tensorCount: Int, notes: [String])
    }

    /// Writes an aligned copy if the file needs one.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` when it does and no output is given.
    func run(output: String?, replacing: Bool, strict: Bool) throws -> Alignment {
        let misaligned = try Self.misaligned(in: path)
        guard !misaligned.isEmpty else { return .intact }
        guard let output else {
            throw CairnError(
                .invalidArgument, "\(misaligned.count) tensors are not aligned to their types, the first is \"\(misaligned[0])\"",
                .init(file: path, advice: "say --output for an aligned copy; the file itself stays as it is"))
        }
        guard PathInspection.canonical(output) != PathInspection.canonical(path) else {
            throw CairnError(
                .invalidArgument, "the copy would be written over the file", .init(file: output, advice: "choose another path"))
        }
        let reader = try CheckpointFormat.safetensors.open(path, .init()).reader
        var texts: [String: String] = [:]
        for text in reader.metadata {
            if case .string(let value) = text.value { texts[text.name] = value }
        }
        let writer = try SafeTensorsWriter(path: output, metadata: texts, replaces: replacing)
        Interruption.watch()
        let bar = ProgressBar("copying", total: reader.tensors.reduce(0) { $0 + ($1.tiedTo == nil ? $1.byteCount : 0) })
        defer { bar.finish() }
        var before = 0
        let notes = try copyCheckpoint(from: reader, to: InterruptibleWriter(writer), strict: strict) { written, _ in
            bar.add(written - before)
            before = written
        }
        return .copied(tensorCount: misaligned.count, notes: notes)
    }

    /// The tensors that do not begin at a multiple of their elements' size in the file, in its order.
    private static func misaligned(in path: String) throws(CairnError) -> [String] {
        let (storage, key) = try LocalStorage.locate(path)
        let header = try SafeTensorsHeader.read(from: storage.open(key))
        return header.entries.filter { entry in
            let width = entry.scalarType.byteWidth ?? 1
            return !entry.byteRange.isEmpty && !(header.dataStart + entry.byteRange.lowerBound).isMultiple(of: width)
        }.map(\.name)
    }
}
