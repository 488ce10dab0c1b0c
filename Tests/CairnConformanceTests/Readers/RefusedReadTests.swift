import CairnBase
import CairnCheckpoint
import CairnTensor
import CairnTesting
import Testing

/// What makes no sense is refused by an error that names the checkpoint and the tensor, before anything is written.
@Suite struct RefusedReadTests {
    /// The names that a tensor has: its own, that of the tensor it is tied to, and those in the checkpoints below a view.
    private func names(_ name: String, in reader: any CheckpointReader) -> [String] {
        let own = [name] + [(try? reader.description(of: name))?.tiedTo].compactMap(\.self)
        guard let view = reader as? any CheckpointView, let below = try? view.baseName(of: name) else { return own }
        return own + names(below, in: view.base)
    }

    private func expect(
        _ code: CairnError.Code, of name: String, in reader: any CheckpointReader, _ what: String, _ body: () throws -> Void
    ) {
        guard let error = refusal(body) else {
            Issue.record("\(what): no error")
            return
        }
        #expect(error.code == code, "\(what): \(error)")
        #expect(names(name, in: reader).contains(error.context.tensor ?? "none"), "\(what): \(error)")
        #expect(error.context.file != nil, "\(what): \(error)")
    }

    @Test(arguments: ReaderSample.all) func aRegionThatDoesNotFitItsTensor(sample: ReaderSample) throws {
        let reader = try sample.opened()
        for tensor in reader.tensors.prefix(30) {
            let rank = tensor.shape.dimensionCount, name = tensor.name
            let other = try Region(
                offsets: [Int](repeating: 0, count: rank + 1), shape: Shape([Int](repeating: 1, count: rank + 1)))
            expect(.mismatch, of: name, in: reader, "one dimension more") {
                _ = try reader.bytes(name, other, count: 64)
            }
            guard rank > 0 else { continue }
            expect(.mismatch, of: name, in: reader, "no dimensions") {
                _ = try reader.bytes(name, Region(whole: .scalar), count: 64)
            }
            for dimension in 0..<rank {
                var offsets = [Int](repeating: 0, count: rank)
                var extents = tensor.shape.extents
                extents[dimension] += 8
                let longer = try Region(offsets: offsets, shape: Shape(extents))
                expect(.mismatch, of: name, in: reader, "\(longer) of \(tensor.shape)") { _ = try reader.bytes(name, longer) }
                offsets[dimension] = tensor.shape[dimension] + 1
                extents = extents.map { _ in 0 }
                let behind = try Region(offsets: offsets, shape: Shape(extents))
                expect(.mismatch, of: name, in: reader, "\(behind) of \(tensor.shape)") { _ = try reader.bytes(name, behind) }
                offsets[dimension] = Int.max - 8
                extents[dimension] = 8
                let far = try Region(offsets: offsets, shape: Shape(extents))
                expect(.mismatch, of: name, in: reader, "\(far) of \(tensor.shape)") {
                    _ = try reader.bytes(name, far, count: 64)
                }
            }
        }
    }

    @Test(arguments: ReaderSample.all) func aDestinationOfAnotherSize(sample: ReaderSample) throws {
        let reader = try sample.opened()
        for tensor in reader.tensors.prefix(30) {
            let whole = Region(whole: tensor.shape)
            for count in Set([tensor.byteCount + 1, tensor.byteCount - 1, 0]) where count >= 0 && count != tensor.byteCount {
                var bytes = [UInt8](repeating: 0xA5, count: count)
                expect(.mismatch, of: tensor.name, in: reader, "\(count) bytes for \(tensor.byteCount)") {
                    var span = bytes.mutableSpan
                    var raw = span.mutableBytes
                    try reader.read(tensor.name, region: whole, into: &raw)
                }
                #expect(bytes.allSatisfy { $0 == 0xA5 }, "\(tensor.name): written to all the same")
            }
        }
    }

    @Test(arguments: ReaderSample.all) func aNameThatIsNotThere(sample: ReaderSample) throws {
        let reader = try sample.opened()
        let region = Region(whole: .scalar)
        for name in ["no such tensor", "", (reader.tensors.first?.name ?? "") + "\u{0}"]
        where reader.tensors.position(of: name) == nil {
            expect(.notFound, of: name, in: reader, "read") {
                var bytes: [UInt8] = [0]
                var span = bytes.mutableSpan
                var raw = span.mutableBytes
                try reader.read(name, region: region, into: &raw)
            }
            expect(.notFound, of: name, in: reader, "description") { _ = try reader.description(of: name) }
            expect(.notFound, of: name, in: reader, "tensor") { _ = try reader.tensor(name) }
            expect(.notFound, of: name, in: reader, "bulk") {
                try withUnsafeTemporaryAllocation(byteCount: 1, alignment: 1) { memory in
                    let target = ReadTarget(whole: .scalar, of: .u8, memory: memory)
                    try reader.read([RegionRequest(name, target)], options: BulkReadOptions())
                }
            }
            guard sample.knowsPieces else { continue }
            expect(.notFound, of: name, in: reader, "pieces") { _ = try reader.storedPieces(of: name) }
        }
    }
}
