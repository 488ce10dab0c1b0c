import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

/// A name comes back to the byte, or is refused before there is a file.
@Suite struct NameTests {
    private static let content = Tensor([1.5, -2] as [Float])

    @Test(arguments: WritableFormat.all) func anOddNameComesBackOrIsRefused(format: WritableFormat) throws {
        for odd in OddNames.all {
            let state = MemoryCheckpoint([format.tensorName(odd): Self.content])
            let storage = MemoryStorage()
            let copy = { _ = try copyCheckpoint(from: state, to: format.makeWriter(storage, false)) }
            if format.refusedNames.contains(odd) {
                #expect(refusal(copy)?.code == .unsupported, "\(odd.debugDescription)")
                #expect(try storage.list("").isEmpty, "\(odd.debugDescription)")
            } else {
                try copy()
                #expect(try difference(state, format.open(storage)) == nil, "\(odd.debugDescription)")
            }
        }
    }

    @Test(arguments: WritableFormat.all.filter { $0.greatestTensorCount == .max })
    func allOddNamesLieBesideEachOther(format: WritableFormat) throws {
        var state = MemoryCheckpoint()
        // A tensor cannot lie inside of another one where names are paths.
        for (number, odd) in OddNames.all.enumerated() where !format.refusedNames.contains(odd) && odd != ".." {
            guard format.tellsEncodings || odd != OddNames.otherEncoding else { continue }
            state.add(format.tensorName(odd), Tensor([Float(number)]))
        }
        #expect(try difference(state, format.open(format.files(of: state))) == nil)
    }

    @Test(arguments: WritableFormat.all.filter { !$0.tellsEncodings })
    func namesThatDifferOnlyInEncodingAreRefusedWhereTheyAreOne(format: WritableFormat) throws {
        let names = ["é", OddNames.otherEncoding].map(format.tensorName)
        let state = MemoryCheckpoint([names[0]: Self.content, names[1]: Self.content])
        let storage = MemoryStorage()
        #expect(refusal { _ = try copyCheckpoint(from: state, to: format.makeWriter(storage, false)) }?.code == .unsupported)
        #expect(try storage.list("").isEmpty)
    }

    /// Some formats name files after tensors.
    @Test(arguments: WritableFormat.all) func onALocalDiskANameIsNoPath(format: WritableFormat) throws {
        for odd in ["../up", "a/b", String(repeating: "long", count: 1000)] {
            let directory = try TemporaryDirectory()
            let storage = LocalStorage(root: directory.path("inner"))
            let state = MemoryCheckpoint([format.tensorName(odd): Self.content])
            let copy = { _ = try copyCheckpoint(from: state, to: format.makeWriter(storage, false)) }
            if format.refusedNames.contains(odd) || (format.namesFiles && odd.utf8.count > 255) {
                #expect(refusal(copy) != nil, "\(odd.prefix(9))")
                #expect(try storage.list("").isEmpty, "\(odd.prefix(9))")
            } else {
                try copy()
                #expect(try difference(state, format.open(storage)) == nil, "\(odd.prefix(9))")
            }
            #expect(try LocalStorage(root: directory.path).list("").allSatisfy { $0.key.hasPrefix("inner/") }, "\(odd.prefix(9))")
        }
    }
}
