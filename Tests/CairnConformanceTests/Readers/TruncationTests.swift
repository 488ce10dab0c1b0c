import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTesting
import Testing

/// A file that ends too early is refused by a typed error, or what is read of it is right: never another number.
@Suite(.tags(.slow, .fuzz)) struct TruncationTests {
    /// Every length up to this is tried, and some of the rest.
    private static let headerByteCount = 400, sampleCount = 60

    @Test(arguments: ReaderSample.files) func nothingWrongIsReadOfAFileThatEndsEarly(sample: ReaderSample) throws {
        let files = try sample.files()
        let whole = try ReadContents(sample.open(files))
        let seed: UInt64 = 5
        var generator = SeededGenerator(seed: seed)
        let entries = try files.list("")
        // Of many files some, so that a sample takes no longer for being in many.
        let chosen = entries.count > 4 ? Array(entries.shuffled(using: &generator).prefix(4)) : entries
        for entry in chosen {
            let original = try files.readAll(entry.key)
            guard !original.isEmpty else { continue }
            let header = try ReaderSample.trials(atMost: Self.headerByteCount, of: files) / chosen.count
            let others = try ReaderSample.trials(atMost: Self.sampleCount, of: files) / chosen.count
            var lengths = Set(0..<min(original.count, header))
            lengths.insert(original.count - 1)
            for _ in 0..<others { lengths.insert(Int.random(in: 0..<original.count, using: &generator)) }
            for length in lengths.sorted() {
                try files.publish(Array(original[..<length]), as: entry.key)
                let place = "seed \(seed): \(entry.key) after \(length) of \(original.count) bytes"
                try expectNothingWrong(sample, files, whole, place)
            }
            try files.publish(original, as: entry.key)
        }
    }

    private func expectNothingWrong(
        _ sample: ReaderSample, _ files: MemoryStorage, _ whole: ReadContents, _ place: String
    ) throws {
        do {
            let reader = try sample.open(files)
            // What is not there any more is said.
            if reader.tensors != whole.tensors { #expect(!reader.skippedEntries.isEmpty, "\(place): tensors are missing") }
            for tensor in reader.tensors {
                guard let position = whole.tensors.position(of: tensor.name) else {
                    Issue.record("\(place): there is a new tensor \(tensor.name)")
                    continue
                }
                do {
                    #expect(try reader.tensor(tensor.name) == whole.bytes[position], "\(place): \(tensor.name)")
                } catch {
                    #expect(error is CairnError, "\(place): \(error)")
                }
            }
        } catch {
            #expect(error is CairnError, "\(place): \(error)")
        }
    }
}
