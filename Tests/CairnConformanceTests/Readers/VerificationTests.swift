import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnStorage
import CairnTesting
import Testing

/// What is whole verifies; of a flipped bit everything is found that a checksum covers, and what none covers is counted.
@Suite(.tags(.slow, .fuzz)) struct VerificationTests {
    @Test(arguments: ReaderSample.all) func whatIsWholeVerifies(sample: ReaderSample) throws {
        let reader = try sample.opened()
        let report = try reader.verify(deep: true) { _ in }
        #expect(report.isValid, "\(report.damages)")
        #expect(report.fileCount > 0 && report.chunkCount > 0 && report.byteCount > 0)
        #expect((0...report.byteCount).contains(report.unsummedByteCount))
        switch sample.checksums {
        case .everything?: #expect(report.unsummedByteCount == 0)
        case WritableFormat.Checksums.none?: #expect(report.unsummedByteCount == report.byteCount)
        case .elements?, .some?: #expect(report.unsummedByteCount < report.byteCount)
        case nil: break
        }
        let shallow = try reader.verify(deep: false) { _ in }
        #expect(shallow.isValid && shallow.fileCount == report.fileCount && shallow.byteCount <= report.byteCount)
    }

    @Test(arguments: ReaderSample.files) func aVerificationCanBeStopped(sample: ReaderSample) throws {
        let reader = try sample.opened()
        do {
            _ = try reader.verify(deep: true) { _ in throw CancellationError() }
            Issue.record("it went on")
        } catch {
            // As it was thrown, or as the cause of an error that says what was stopped.
            #expect(((error as? CairnError)?.cause ?? error) is CancellationError, "\(error)")
        }
    }

    private static let flipCount = 60

    @Test(arguments: ReaderSample.files) func aFlippedBitIsFoundOrCounted(sample: ReaderSample) throws {
        let files = try sample.files()
        let whole = try ReadContents(sample.open(files))
        let keys = try files.list("").map(\.key)
        let seed: UInt64 = 3
        var generator = SeededGenerator(seed: seed)
        var found = 0
        for _ in 0..<(try ReaderSample.trials(atMost: Self.flipCount, of: files)) {
            guard let key = keys.randomElement(using: &generator) else { return }
            let original = try files.readAll(key)
            guard let offset = original.indices.randomElement(using: &generator) else { continue }
            var damaged = original
            let bit = UInt8.random(in: 0..<8, using: &generator)
            damaged[offset] ^= 1 << bit
            try files.publish(damaged, as: key)
            defer { try? files.publish(original, as: key) }
            let place = "seed \(seed): bit \(bit) of byte \(offset) of \(key)"
            do {
                let reader = try sample.open(files)
                guard try reader.verify(deep: true, progress: { _ in }).isValid else {
                    found += 1
                    continue
                }
                guard let checksums = sample.checksums else { continue }
                try expectCovered(ReadContents(reader), whole, checksums, place)
            } catch {
                #expect(error is CairnError, "\(place): \(error)")
                found += 1
            }
        }
        switch sample.checksums {
        case .everything?, .elements?: #expect(found > 0, "seed \(seed)")
        // It may be elements alone that were hit.
        case .some?, WritableFormat.Checksums.none?, nil: break
        }
    }

    /// What verifies in spite of a flipped bit is unchanged as far as checksums reach.
    private func expectCovered(
        _ contents: ReadContents, _ whole: ReadContents, _ checksums: WritableFormat.Checksums, _ place: String
    ) throws {
        switch checksums {
        case .everything: #expect(contents == whole, "\(place)")
        case .elements:
            for (tensor, bytes) in zip(contents.tensors, contents.bytes) {
                // One that the flip gave another name, type or shape is another tensor.
                guard let position = whole.tensors.position(of: tensor.name), whole.tensors[position] == tensor else { continue }
                #expect(bytes == whole.bytes[position], "\(place): \(tensor.name)")
            }
        case .some, .none: break
        }
    }
}
