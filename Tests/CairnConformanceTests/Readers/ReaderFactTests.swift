import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnLayout
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

/// What a reader lists is sorted, agrees with itself, and is where it says.
@Suite struct ReaderFactTests {
    private func isSorted(_ names: [String]) -> Bool {
        zip(names, names.dropFirst()).allSatisfy { ExactString($0) < ExactString($1) }
    }

    @Test(arguments: ReaderSample.all) func listsAreSortedAndTiesLeadSomewhere(sample: ReaderSample) throws {
        let reader = try sample.opened()
        #expect(!reader.tensors.isEmpty && !reader.format.isEmpty && !reader.source.isEmpty)
        #expect(isSorted(reader.tensors.map(\.name)))
        #expect(isSorted(reader.values.map(\.name)))
        #expect(isSorted(reader.metadata.map(\.name)))
        for tensor in reader.tensors {
            #expect(try reader.description(of: tensor.name) == tensor)
            try reader.requireStored(tensor.name)
            guard let kept = tensor.tiedTo else { continue }
            let target = try reader.description(of: kept)
            #expect(target.tiedTo == nil && target.shape == tensor.shape && target.scalarType == tensor.scalarType, "\(tensor)")
            #expect(try reader.tensor(tensor.name) == reader.tensor(kept), "\(tensor)")
        }
        #expect(reader.skippedTensorCount >= 0)
    }

    @Test(arguments: ReaderSample.all) func aNestedStateHasTheTensorsThatAreListed(sample: ReaderSample) throws {
        let reader = try sample.opened()
        guard let structure = reader.structure else { return }
        var names: [String] = []
        func visit(_ node: StateNode) {
            switch node {
            case .tensor(let name): names.append(name)
            case .value: break
            case .list(let nodes), .tuple(let nodes): nodes.forEach(visit)
            case .dictionary(let members): members.forEach { visit($0.node) }
            case .typed(_, let inner): visit(inner)
            }
        }
        visit(structure)
        #expect(names.map { ExactString($0) }.sorted() == reader.tensors.map { ExactString($0.name) })
    }

    @Test(arguments: ReaderSample.all) func whatRanksHadAloneIsTheSameOneByOne(sample: ReaderSample) throws {
        let reader = try sample.opened()
        let all = try reader.rankValues()
        #expect(all.map(\.rank) == all.map(\.rank).sorted())
        for own in all {
            #expect(!own.values.isEmpty && own.rank < own.rankCount && isSorted(own.values.map(\.name)))
            #expect(try reader.rankValues(ofRank: own.rank) == own)
        }
        guard let identity = reader.identity else { return }
        for rank in 0..<identity.rankCount where !all.contains(where: { $0.rank == rank }) {
            #expect(try reader.rankValues(ofRank: rank)?.values ?? [] == [])
        }
        #expect(refusal { _ = try reader.rankValues(ofRank: identity.rankCount) }?.code == .notFound)
        #expect(refusal { _ = try reader.rankValues(ofRank: -1) }?.code == .notFound)
    }

    @Test(arguments: ReaderSample.all) func piecesCoverEachTensorOnce(sample: ReaderSample) throws {
        let files = try sample.files()
        let reader = try sample.open(files)
        let keys = try files.list("").map(\.key)
        let seed: UInt64 = 9
        var generator = SeededGenerator(seed: seed)
        for tensor in reader.tensors {
            let found = try reader.storedPieces(of: tensor.name)
            guard sample.knowsPieces, let pieces = found else {
                #expect(found == nil, "\(tensor.name)")
                continue
            }
            let stored = pieces.filter { $0.region.elementCount > 0 }
            #expect(throws: Never.self, "\(tensor.name)") { try FragmentCoverage.check(stored.map(\.region), of: tensor.shape) }
            for piece in stored {
                #expect(keys.contains { $0 == piece.file || $0.hasSuffix("/" + piece.file) }, "\(piece)")
            }
            for region in try Region.samples(of: tensor.shape, using: &generator) where region.elementCount > 0 {
                let some = try #require(try reader.storedPieces(of: tensor.name, in: region))
                let expected = Set(stored.filter { $0.region.overlaps(region) })
                #expect(Set(some) == expected, "seed \(seed): \(tensor.name) \(region)")
            }
        }
    }
}
