import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnDelta
import CairnDigest
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

@Suite struct DeltaTests {
    /// Writes a delta and opens it.
    private func delta(
        _ base: any CheckpointReader, _ result: any CheckpointReader, chunkByteCount: Int = 256,
        as key: String = "delta", in storage: MemoryStorage = MemoryStorage()
    ) throws -> CheckpointDelta {
        try CheckpointDelta.write(from: base, to: result, storage: storage, file: key, chunkByteCount: chunkByteCount)
        return try CheckpointDelta(storage: storage, file: key)
    }

    private func floats(_ count: Int, _ generator: inout SeededGenerator) throws -> Tensor {
        try Tensor((0..<count).map { _ in Float.random(in: -1...1, using: &generator) }, [count])
    }

    /// A checkpoint with some of another one's elements changed, tensors added, removed, reshaped, retyped, and values.
    private func changed(_ base: MemoryCheckpoint, using generator: inout SeededGenerator) throws -> MemoryCheckpoint {
        var result = MemoryCheckpoint("result")
        for tensor in base.tensors {
            let old = try base.tensor(tensor.name)
            switch Int.random(in: 0..<8, using: &generator) {
            case 0: result.add(tensor.name, old)
            case 1: break
            case 2: result.add(tensor.name, try floats(Int.random(in: 0..<40, using: &generator), &generator))
            default:
                // Bits anywhere, NaNs and both zeros among them: a share of the bytes, from none to all.
                var bytes = [UInt8](repeating: 0, count: old.byteCount)
                for index in bytes.indices { bytes[index] = old.bytes.unsafeLoad(fromByteOffset: index, as: UInt8.self) }
                let shares: [Double] = [0.001, 0.01, 0.2, 0.6, 1]
                let share = shares.randomElement(using: &generator) ?? 1
                for index in bytes.indices where Double.random(in: 0..<1, using: &generator) < share {
                    bytes[index] = UInt8.random(in: 0...255, using: &generator)
                }
                let made = try Tensor(old.scalarType, old.shape) { span in
                    for index in bytes.indices { span.storeBytes(of: bytes[index], toByteOffset: index, as: UInt8.self) }
                }
                result.add(tensor.name, made)
            }
        }
        result.add("added", try floats(Int.random(in: 0..<200, using: &generator), &generator))
        result.values = [
            .init(name: "step", value: .integer(Int64.random(in: 0..<9, using: &generator))),
            .init(name: "kept", value: .dictionary(["a": .list([.double(0.5), .null])])),
        ]
        return result
    }

    @Test(arguments: 1...40) func anyDifferenceComesBackBitForBit(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        var base = try MemoryCheckpoint.random(12, using: &generator)
        base.values = [
            .init(name: "kept", value: .dictionary(["a": .list([.double(0.5), .null])])),
            .init(name: "gone", value: .string("x")), .init(name: "step", value: .integer(100)),
        ]
        let result = try changed(base, using: &generator)
        let chunk = [64, 100, 1000, 2 << 20].randomElement(using: &generator) ?? 64
        let patched = try delta(base, result, chunkByteCount: chunk).applied(to: base)
        #expect(try difference(patched, result) == nil, "seed \(seed)")
        #expect(try CheckpointDigest(of: patched).tensors == CheckpointDigest(of: result).tensors, "seed \(seed)")
        #expect(patched.values == result.values, "seed \(seed)")
        #expect(try patched.verify(deep: true).isValid, "seed \(seed)")
        // Regions in the middle need the changes of the chunks that they meet, and no others.
        for tensor in result.tensors where !tensor.scalarType.isPacked && tensor.shape.elementCount > 0 {
            let ranges = tensor.shape.extents.map { extent -> Range<Int> in
                let begin = Int.random(in: 0..<extent, using: &generator)
                return begin..<Int.random(in: begin + 1...extent, using: &generator)
            }
            let region = try Region(offsets: ranges.map(\.lowerBound), shape: Shape(ranges.map(\.count)))
            let one = try patched.tensor(tensor.name, region: region), other = try result.tensor(tensor.name, region: region)
            #expect(one == other, "seed \(seed), \(tensor.name) \(region)")
        }
        // Loads of many tensors at once.
        let state = try TrainingState(reading: patched)
        for tensor in result.tensors {
            #expect(try state.tensor(tensor.name) == result.tensor(tensor.name), "seed \(seed)")
        }
    }

    @Test(arguments: [ScalarType.u8, .bf16, .f32, .f64, .c64, .i64, .f4, .f8e4m3])
    func everyDensityOfChangesComesBack(type: ScalarType) throws {
        var generator = SeededGenerator(seed: UInt64(type.bitWidth))
        for share in [0, 0.0001, 0.003, 0.05, 0.3, 0.49, 0.51, 1] {
            let count = 60_000
            let old = try Tensor(type, [count]) { span in
                for index in span.byteOffsets {
                    span.storeBytes(of: UInt8.random(in: 0...255, using: &generator), toByteOffset: index, as: UInt8.self)
                }
            }
            let step = type.byteWidth ?? 1
            let new = try Tensor(type, [count]) { span in
                for begin in Swift.stride(from: 0, to: span.byteCount, by: step) {
                    let changes = Double.random(in: 0..<1, using: &generator) < share
                    for index in begin..<begin + step {
                        let byte = old.bytes.unsafeLoad(fromByteOffset: index, as: UInt8.self)
                        span.storeBytes(of: changes && index == begin ? byte &+ 1 : byte, toByteOffset: index, as: UInt8.self)
                    }
                }
            }
            let (base, result) = (MemoryCheckpoint(["w": old]), MemoryCheckpoint(["w": new]))
            let made = try delta(base, result, chunkByteCount: 50_000)
            #expect(try made.applied(to: base).tensor("w") == new, "\(type) \(share)")
            let summary = made.summary
            #expect(summary.equalTensorCount == (share == 0 ? 1 : 0) && summary.newTensorCount == 0)
            // What changes in a hundredth of the elements takes little of them.
            if share == 0 { #expect(summary.storedByteCount == 0) }
            if share == 0.003, step > 1 { #expect(summary.storedByteCount < old.byteCount / 30, "\(type)") }
        }
    }

    @Test func ofAnUpdateThatMovesEveryElementByAUnitHardlyAnythingIsStored() throws {
        var generator = SeededGenerator(seed: 5)
        let old = (0..<100_000).map { _ in UInt16.random(in: 0x3C00...0x3F00, using: &generator) }
        let new = old.map { Bool.random(using: &generator) ? $0 + 1 : $0 - 1 }
        func tensor(_ bits: [UInt16]) throws -> Tensor {
            try Tensor(.bf16, [bits.count]) { span in
                for (index, value) in bits.enumerated() {
                    span.storeBytes(of: value.littleEndian, toByteOffset: 2 * index, as: UInt16.self)
                }
            }
        }
        let (base, result) = (try MemoryCheckpoint(["w": tensor(old)]), try MemoryCheckpoint(["w": tensor(new)]))
        let summary = try delta(base, result, chunkByteCount: 1 << 20).summary
        // A bit and a little for each of 16.
        #expect(summary.storedByteCount < 2 * old.count / 8, "\(summary.storedByteCount)")
    }

    @Test func tiesAreKeptAndReadByBothNames() throws {
        let (old, new) = (try Tensor([1, 2, 3] as [Float], [3]), try Tensor([1, 2, 4] as [Float], [3]))
        var base = MemoryCheckpoint(["head": old, "embed": old]), result = MemoryCheckpoint(["embed": new])
        result.add("head", new, tiedTo: "embed")
        let patched = try delta(base, result).applied(to: base)
        #expect(patched.tensors.first { $0.name == "head" }?.tiedTo == "embed")
        #expect(try patched.tensor("head").elements(as: Float.self) == [1, 2, 4])
        // A base in which the tie is one, or in which the name is missing, is the same base.
        base.add("head", old, tiedTo: "embed")
        #expect(try delta(base, result).applied(to: base).tensor("head").elements(as: Float.self) == [1, 2, 4])
        let untied = try delta(base, MemoryCheckpoint(["embed": new, "head": old])).applied(to: base)
        #expect(try untied.tensor("head").elements(as: Float.self) == [1, 2, 3])
    }

    @Test func whatIsTheBasesLoadsByTheBasesOwnReads() throws {
        let (same, old, new) = (Tensor([1] as [Float]), Tensor([2] as [Float]), Tensor([3] as [Float]))
        var base = MemoryCheckpoint("memory", isMapped: true)
        base.add("same", same)
        base.add("w", old)
        let patched = try delta(base, MemoryCheckpoint(["same": same, "w": new])).applied(to: base)
        #expect(try patched.baseName(of: "same") == "same")
        #expect(try patched.baseName(of: "w") == nil)
        #expect(try patched.mapped("same") != nil)
        #expect(try patched.mapped("w") == nil)
    }
}

@Suite struct DeltaChainTests {
    private func checkpoint(_ numbers: [Float], step: Int) throws -> MemoryCheckpoint {
        var checkpoint = MemoryCheckpoint(["a": try Tensor(numbers, [numbers.count]), "b": Tensor([1, 2] as [Float])])
        checkpoint.values = [.init(name: "step", value: .integer(Int64(step)))]
        return checkpoint
    }

    @Test func deltasApplyOneBehindTheOther() throws {
        let storage = MemoryStorage()
        let steps = try [[1, 2, 3], [1, 2, 4], [1, 9, 4], [0, 9, 4]].enumerated().map { try checkpoint($1, step: $0) }
        var reader: any CheckpointReader = steps[0]
        for index in 1..<steps.count {
            try CheckpointDelta.write(from: steps[index - 1], to: steps[index], storage: storage, file: "\(index)")
            reader = try CheckpointDelta(storage: storage, file: "\(index)").applied(to: reader)
        }
        #expect(try difference(reader, steps[3]) == nil)
        let writer = SafeTensorsWriter(storage: storage, key: "out.safetensors")
        _ = try #require(reader as? PatchedReader).write(to: writer)
        #expect(try difference(SafeTensorsReader(storage: storage, file: "out.safetensors"), steps[3]) == nil)
        // Out of order: known before any element is read.
        let first = try CheckpointDelta(storage: storage, file: "1").applied(to: steps[0])
        let error = refusal { _ = try CheckpointDelta(storage: storage, file: "3").applied(to: first) }
        #expect(error?.code == .mismatch)
        #expect(
            error?.context.tensor == "a" && error?.message.contains("does not follow") == true, "\(String(describing: error))")
    }

    @Test func anotherBaseIsRefusedByName() throws {
        let storage = MemoryStorage()
        let base = try checkpoint([1, 2, 3], step: 0)
        try CheckpointDelta.write(from: base, to: checkpoint([1, 2, 4], step: 1), storage: storage, file: "d")
        let delta = try CheckpointDelta(storage: storage, file: "d")
        func refused(_ other: MemoryCheckpoint, naming tensor: String, _ words: String) throws {
            let error = refusal { _ = try delta.applied(to: other) }
            #expect(error?.code == .mismatch && error?.context.tensor == tensor, "\(String(describing: error))")
            #expect(error?.message.contains(words) == true, "\(String(describing: error))")
        }
        try refused(checkpoint([1, 2], step: 0), naming: "a", "another type or shape")
        try refused(checkpoint([1, 2, 3], step: 7), naming: "step", "another value")
        var other = base
        other.add("c", Tensor([1] as [Float]))
        try refused(other, naming: "c", "does not know")
        other = MemoryCheckpoint(["a": Tensor([1, 2, 3] as [Float])])
        other.values = base.values
        try refused(other, naming: "b", "no such tensor")
        other = base
        other.values = []
        try refused(other, naming: "step", "lacks a value")
        other.values = base.values + [.init(name: "more", value: .null)]
        try refused(other, naming: "more", "does not know")
        // Other elements, changed by the delta or not: found out as they are written, and nothing is left.
        for (name, elements) in [("a", [1, 5, 3]), ("b", [1, 3])] as [(String, [Float])] {
            var wrong = base
            wrong.add(name, try Tensor(elements, [elements.count]))
            let patched = try delta.applied(to: wrong)
            let error = refusal { _ = try patched.write(to: SafeTensorsWriter(storage: storage, key: "out.safetensors")) }
            #expect(error?.code == .mismatch && error?.context.tensor == name, "\(String(describing: error))")
            #expect(error?.message.contains("other elements than its base") == true)
            #expect(try storage.list("out").isEmpty)
            #expect(try patched.verify(deep: true).damages.map(\.error.context.tensor) == [name])
        }
    }

    @Test func damageIsNamedAndNeverRead() throws {
        let storage = MemoryStorage()
        var generator = SeededGenerator(seed: 9)
        let old = (0..<3000).map { _ in Float.random(in: 0..<1, using: &generator) }
        let base = MemoryCheckpoint(["w": try Tensor(old, [old.count])])
        let result = MemoryCheckpoint(["w": try Tensor(old.map { $0 < 0.1 ? $0 * 2 : $0 }, [old.count])])
        try CheckpointDelta.write(from: base, to: result, storage: storage, file: "d", chunkByteCount: 1024)
        let whole = try storage.readAll("d")
        var refusals = 0
        for offset in whole.indices {
            var bytes = whole
            bytes[offset] ^= UInt8.random(in: 1...255, using: &generator)
            try storage.publish(bytes, as: "d")
            do throws(CairnError) {
                let patched = try CheckpointDelta(storage: storage, file: "d").applied(to: base)
                let tensor = try patched.bytes(of: "w")
                // What is not refused is the result, or a digest that was damaged itself.
                let report: VerificationReport
                do { report = try patched.verify(deep: true) } catch { throw CairnError(wrapping: error, "verify") }
                #expect(try tensor == result.bytes(of: "w") || !report.isValid, "offset \(offset)")
            } catch {
                refusals += 1
                #expect(error.code.isUnusable, "offset \(offset): \(error)")
            }
        }
        #expect(refusals > whole.count / 2)
        for count in stride(from: 0, to: whole.count, by: 7) {
            try storage.publish(Array(whole.prefix(count)), as: "d")
            #expect(refusal { _ = try CheckpointDelta(storage: storage, file: "d") }?.code.isUnusable == true, "\(count) bytes")
        }
    }

    @Test func anotherFileIsNoDelta() throws {
        let storage = MemoryStorage()
        let writer = SafeTensorsWriter(storage: storage, key: "x.safetensors")
        _ = try copyCheckpoint(from: MemoryCheckpoint(["w": Tensor([1] as [Float])]), to: writer)
        let error = refusal { _ = try CheckpointDelta(storage: storage, file: "x.safetensors") }
        #expect(error?.code == .unsupported && error?.message == "this is not a delta")
        #expect(refusal { _ = try CheckpointDelta(storage: storage, file: "none") }?.code == .notFound)
    }

    @Test func anErrorOfASourceLeavesNothing() throws {
        let storage = MemoryStorage()
        var failing = try checkpoint([1, 2, 3], step: 0)
        failing.readLimit = 1
        #expect(throws: (any Error).self) {
            try CheckpointDelta.write(from: failing, to: failing, storage: storage, file: "d")
        }
        #expect(try storage.list("").isEmpty)
    }
}

extension CheckpointReader {
    fileprivate func bytes(of name: String) throws(CairnError) -> [UInt8] {
        try ReaderView(self, description(of: name)).bytes(of: Region(whole: description(of: name).shape))
    }
}
