import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnStorage
import CairnTesting
import Testing

/// What is there is left alone unless it may be replaced, and then nothing of it stays.
@Suite struct ReplacementTests {
    @Test(arguments: WritableFormat.all) func whatIsThereIsNotReplacedUnasked(format: WritableFormat) throws {
        let (old, new) = (try format.randomState(seed: 1), try format.randomState(seed: 2))
        let storage = try format.files(of: old)
        let before = try storage.contents()
        #expect(refusal { _ = try copyCheckpoint(from: new, to: format.makeWriter(storage, false)) }?.code == .alreadyExists)
        #expect(try storage.contents() == before)
    }

    @Test(arguments: WritableFormat.all) func whatIsReplacedLeavesNothing(format: WritableFormat) throws {
        for seed in 1..<6 as Range<UInt64> {
            let (old, new) = (try format.randomState(seed: seed), try format.randomState(seed: seed + 1))
            let storage = try format.files(of: old)
            _ = try copyCheckpoint(from: new, to: format.makeWriter(storage, true))
            #expect(try difference(new, format.openWithoutAdditions(storage)) == nil, "seed \(seed)")
            let fresh = MemoryStorage()
            _ = try copyCheckpoint(from: new, to: format.makeWriter(fresh, true))
            #expect(try storage.contents() == fresh.contents(), "seed \(seed)")
        }
    }

    /// Files of other names are nobody's to delete.
    @Test(arguments: WritableFormat.all) func whatElseIsThereStays(format: WritableFormat) throws {
        let storage = try format.files(of: format.randomState(seed: 1))
        let others = ["notes.txt", "other.bin", "folder/notes.txt"]
        for key in others { try storage.publish([1, 2, 3], as: key) }
        _ = try copyCheckpoint(from: format.randomState(seed: 2), to: format.makeWriter(storage, true))
        for key in others { #expect(try storage.readAll(key) == [1, 2, 3], "\(key)") }
    }
}
