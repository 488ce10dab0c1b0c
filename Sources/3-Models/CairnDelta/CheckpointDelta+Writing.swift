import CairnBase
public import CairnCheckpoint
import CairnDigest
package import CairnStorage
import CairnTensor

extension CheckpointDelta {
    /// Writes what it takes to make one checkpoint of another. Both are read once, and no more memory is taken than for a few
    /// chunks of them.
    ///
    /// Tensors are compared bit by bit. Those that the base has with another type or shape are stored whole.
    ///
    /// - Parameters:
    ///   - base: What the delta will apply to.
    ///   - result: What comes out.
    ///   - key: The name of the file, which is replaced as a whole if it is there.
    ///   - origins: What the two are, for people who apply the delta to something else.
    ///   - progress: Called with the number of bytes of the result just compared; throwing stops.
    /// - Returns: What the delta holds, and what of the result it cannot hold, a sentence each.
    /// - Throws: The readers' and the storage's errors; nothing is left of the file then.
    @discardableResult
    package static func write(
        from base: any CheckpointReader, to result: any CheckpointReader, storage: any Storage, file key: String,
        origins: (base: DeltaContents.Origin, result: DeltaContents.Origin)? = nil, chunkByteCount: Int = 2 << 20,
        progress: (Int) throws -> Void = { _ in }
    ) throws -> (summary: Summary, notes: [String]) {
        var contents = DeltaContents()
        contents.base = origins?.base ?? .init(source: base.source)
        contents.result = origins?.result ?? .init(source: result.source)
        try contents.compareValues(of: base, with: result)
        var header = SafeTensorsHeader(entries: [], metadata: [(metadataKey, version)])
        func serialized(_ changes: Int, _ list: Int, minimum: Int = 0) throws(CairnError) -> [UInt8] {
            header.entries = [
                .init(name: changesName, scalarType: .u8, shape: Shape([changes]), byteRange: 0..<changes),
                .init(name: contentsName, scalarType: .u8, shape: Shape([list]), byteRange: changes..<changes + list),
            ]
            return try header.serialized(alignment: 64, minimumByteCount: minimum)
        }
        // The greatest numbers take the most digits.
        let start = try serialized(1 << 60, 1 << 60).count
        let writer = try storage.create(key, byteCount: nil)
        do {
            let comparison = DeltaComparison(base, result, chunkByteCount: chunkByteCount)
            var end = 0
            contents.tensors = try comparison.run(progress: progress) { bytes in
                try writer.write(bytes, at: start + end)
                end += bytes.count
                return end
            }
            contents.removed = comparison.removed
            let list = pack(try contents.json())
            try writer.write(list, at: start + end)
            try writer.write(try serialized(end, list.count, minimum: start), at: 0)
            try writer.finish(byteCount: start + end + list.count)
        } catch {
            writer.discard()
            throw error
        }
        var notes = result.structure.map { StateLosses(of: $0, in: .flat).notes } ?? []
        if let note = try result.rankValues().lossNote { notes.append(note) }
        return (try CheckpointDelta(storage: storage, file: key).summary, notes)
    }

    /// Writes what it takes to make one checkpoint of another, to a path. Both are read once, with memory for a few chunks.
    ///
    /// Tensors are compared bit by bit. Those that the base has with another type or shape are stored whole.
    ///
    /// - Parameter path: The file, which is replaced as a whole if it is there.
    /// - Returns: How much of the result is in the delta.
    /// - Throws: The readers' and the storage's errors; nothing is left of the file then.
    @discardableResult
    public static func write(
        from base: any CheckpointReader, to result: any CheckpointReader, path: String
    ) throws -> Summary {
        let (storage, key) = try LocalStorage.locate(path)
        return try write(from: base, to: result, storage: storage, file: key).summary
    }
}

extension DeltaContents {
    /// Notes the digests of the base's values and which of them change.
    fileprivate mutating func compareValues(
        of base: any CheckpointReader, with result: any CheckpointReader
    ) throws(CairnError) {
        var before: [ExactString: Value] = [:]
        for value in base.values {
            before[ExactString(value.name)] = value.value
            baseValues.append((value.name, try CheckpointDigest.sha256(of: value.value)))
        }
        for value in result.values {
            if let old = before.removeValue(forKey: ExactString(value.name)), old == value.value { continue }
            setValues.append(value)
        }
        removedValues = before.keys.sorted().map(\.string)
    }
}
