import CairnBase
import CairnCheckpoint
import CairnDigest
import CairnHDF5
import CairnStorage
import CairnStorageTesting
import CairnTensor
import CairnTesting
import Testing

@Suite struct HDF5ReaderTests {
    @Test func filesOfH5pyHoldWhatItSays() throws {
        for (file, truth) in try Fixture.truth("h5py_plain") {
            let reader = try HDF5Reader(path: Fixture.path(file))
            let digest = try CheckpointDigest(of: reader, bufferByteCount: 512)
            try Fixture.check(digest, truth, others: ["hardlink", "softlink"], file)
            var expected = try Fixture.leaves(truth)
            // Records are values too; the truth has a checksum of them instead.
            for (index, (step, rate)) in [(1, 2.5), (3, 4.5)].enumerated() {
                expected["compound/\(index)/step"] = .integer(Int64(step))
                expected["compound/\(index)/lr"] = .double(rate)
            }
            #expect(Fixture.leaves(digest) == expected, "\(file)")
            #expect(reader.skippedEntries == ["dangling is a link to nothing in this file"])
        }
    }

    @Test func whatLinksLeadToIsTied() throws {
        let reader = try HDF5Reader(path: Fixture.path("h5py_plain/default.h5"))
        let ties = reader.tensors.filter { $0.tiedTo != nil }
        #expect(ties.map(\.name) == ["hardlink", "softlink"])
        #expect(ties.map(\.tiedTo) == ["contig_f4", "model/h/0/w"])
        #expect(try reader.tensor("hardlink") == reader.tensor("contig_f4"))
    }

    @Test(arguments: ["v18.h5", "v110.h5", "v112.h5", "latest.h5"])
    func everyIndexOfChunksIsReadInEveryVersion(file: String) throws {
        let truth = try #require(try Fixture.truth("more").first { $0.file.hasSuffix("/" + file) }).truth
        let digest = try CheckpointDigest(of: HDF5Reader(path: Fixture.path("more/" + file)), bufferByteCount: 512)
        try Fixture.check(digest, truth, file)
        #expect(digest.objects.map(\.value) == [.bool(true), .bool(false)])
    }

    @Test func attributesThatAHeaderHasNoRoomForAreRead() throws {
        let digest = try CheckpointDigest(of: HDF5Reader(path: Fixture.path("more/dense.h5")))
        var expected: [String: Value] = [:]
        for holder in ["w", "group"] {
            for index in 0..<60 {
                let name = "\(holder)/a" + (index < 10 ? "0" : "") + String(index)
                switch index % 6 {
                case 0: expected[name] = .integer(Int64(index))
                case 1: expected[name] = .string("text \(index) é")
                case 2: expected[name] = .string("\(index)")
                case 3:
                    for part in 0..<3 { expected["\(name)/\(part)"] = .double(Double(part) + Double(index) / 2) }
                case 4: expected[name] = .bool(index % 4 == 0)
                default:
                    for (part, text) in ["\(index)", "", String(repeating: "x", count: 40)].enumerated() {
                        expected["\(name)/\(part)"] = .string(text)
                    }
                }
            }
        }
        #expect(Fixture.leaves(digest) == expected)
        #expect(digest.tensors.map(\.name) == ["w"])
    }

    @Test func whatLiesElsewhereIsLeftOutByName() throws {
        let reader = try HDF5Reader(path: Fixture.path("more/kinds.h5"))
        let truth = try #require(try Fixture.truth("more").first { $0.file == "more/kinds.h5" }).truth
        let digest = try CheckpointDigest(of: reader)
        try Fixture.check(digest, truth, "kinds.h5")
        for name in [
            "external_link", "external_data", "virtual", "reference", "ragged", "long_double", "soft_cycle",
            "soft_group",
            "group/up", "other", "opaque",
        ] {
            #expect(reader.skippedEntries.contains { $0.hasPrefix(name + " ") }, "\(name)")
        }
    }

    @Test func aFileThatWasCutShortIsRefused() throws {
        let error = try #require(refusal { _ = try HDF5Reader(path: Fixture.path("h5py_plain/truncated.h5")) })
        #expect(error.code == .malformed)
        #expect(error.context.file == Fixture.path("h5py_plain/truncated.h5"))
    }

    @Test func everyRegionIsThatOfTheWhole() throws {
        let seed = UInt64.random(in: .min ... .max)
        var generator = SeededGenerator(seed: seed)
        for file in ["h5py_plain/default.h5", "h5py_plain/latest.h5", "more/kinds.h5", "more/latest.h5"] {
            let reader = try HDF5Reader(path: Fixture.path(file))
            for description in reader.tensors where description.shape.elementCount > 0 {
                let whole = try reader.tensor(description.name)
                for _ in 0..<4 {
                    let offsets = description.shape.extents.map { Int.random(in: 0..<$0, using: &generator) }
                    let extents = zip(description.shape.extents, offsets).map { extent, offset in
                        Int.random(in: 1...(extent - offset), using: &generator)
                    }
                    let region = try Region(offsets: offsets, shape: Shape(extents))
                    let part = try Tensor(description.scalarType, region.shape) {
                        try reader.read(description.name, region: region, into: &$0)
                    }
                    #expect(try part == whole.copy(of: region), "\(file) \(description.name) \(region), seed \(seed)")
                }
            }
        }
    }

    @Test func aRegionReadsNoMoreThanItsChunks() throws {
        let storage = MemoryStorage()
        try storage.publish(Fixture.bytes("h5py_plain/default.h5"), as: "f.h5")
        let counting = CountingStorage(storage)
        let reader = try HDF5Reader(storage: counting, file: "f.h5")
        counting.reset()
        // 100 by 33 in chunks of 16 by 10, compressed: one chunk has at most 640 bytes.
        var bytes = [UInt8](repeating: 0, count: 4)
        var span = bytes.mutableSpan
        var raw = span.mutableBytes
        let region = try Region(offsets: [50, 15], shape: [1, 1])
        try reader.read("chunk_gzip_shuffle", region: region, into: &raw)
        // The index of the chunks on the way costs a few nodes.
        #expect(counting.reads.byteCount < 8192)
        counting.reset()
        try reader.read("contig_f4", region: region, into: &raw, expecting: .mismatch)
        var four = [UInt8](repeating: 0, count: 4)
        var fourSpan = four.mutableSpan
        var fourRaw = fourSpan.mutableBytes
        try reader.read("contig_f4", region: Region(offsets: [3, 4], shape: [1, 1]), into: &fourRaw)
        #expect(counting.reads.byteCount == 4)
    }

    @Test func aChangedByteIsNoticedWhereThereIsAChecksum() throws {
        let bytes = try Fixture.bytes("h5py_plain/default.h5")
        let storage = MemoryStorage()
        try storage.publish(bytes, as: "f.h5")
        let reader = try HDF5Reader(storage: storage, file: "f.h5")
        #expect(try reader.verify(deep: true) { _ in }.isValid)
        // What zlib and Fletcher-32 do not cover is not noticed, and what is structure is refused when it is opened: bytes
        // are changed one at a time, all over the file.
        var found: Set<String> = []
        for position in stride(from: 2048, to: bytes.count, by: 997) {
            var changed = bytes
            changed[position] ^= 0x10
            try storage.publish(changed, as: "g.h5")
            guard let reader = try? HDF5Reader(storage: storage, file: "g.h5") else { continue }
            for damage in try reader.verify(deep: true, progress: { _ in }).damages {
                if damage.error.code == .corrupted, let name = damage.error.context.tensor { found.insert(name) }
            }
        }
        #expect(!found.isEmpty)
    }
}

extension HDF5Reader {
    /// Reads what must be refused.
    fileprivate func read(
        _ name: String, region: Region, into destination: inout MutableRawSpan, expecting code: CairnError.Code
    ) throws {
        do throws(CairnError) {
            try read(name, region: region, into: &destination)
        } catch {
            #expect(error.code == code)
            return
        }
        Issue.record("\(name) \(region) was read")
    }
}
