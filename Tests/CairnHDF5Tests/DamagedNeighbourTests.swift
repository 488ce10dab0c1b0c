import CairnBase
import CairnCheckpoint
import CairnDigest
import CairnHDF5
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

/// Files of which a part cannot be read: the rest is there, the part is named, and only damage is called that.
@Suite struct DamagedNeighbourTests {
    private static func path(_ file: String) -> String { Repository.fixture("reports/hdf5-small") + "/" + file }

    @Test(arguments: [
        ("filter_blosc.h5", "x is left out: its chunks went through filter 32001 (Blosc)"),
        ("floats_other_forms.h5", "longdouble is left out: it holds 16-byte"),
        ("latin1_dataset.h5", "is left out: its name is empty or no UTF-8"),
        ("netcdf_dimension.h5", "nCells is left out"), ("sparse_4tb.h5", "sparse is left out"),
        ("one_bad_header.h5", "bad is left out, it is damaged"),
        ("reference112_attribute.h5", "the attribute r of /good is left out: it holds references"),
        ("reference112_dataset.h5", "r is left out: it holds references"),
        ("virtual_of_itself.h5", "v is left out: it is virtual"), ("virtual_v112.h5", "v is left out: it is virtual"),
    ])
    func whatCannotBeReadIsNamedAndTheRestIsRead(file: String, words: String) throws {
        let reader = try HDF5Reader(path: Self.path(file))
        #expect(try reader.tensor("good") == Tensor([0, 1, 2, 3, 4, 5] as [Float]))
        #expect(reader.skippedEntries.contains { $0.contains(words) }, "\(reader.skippedEntries)")
        let damages = try reader.verify(deep: false) { _ in }.damages
        #expect(damages.map(\.error.context.tensor) == (file == "one_bad_header.h5" ? ["bad"] : []))
    }

    @Test func headersAndHeapsOfEveryVersionGiveAllTheyHold() throws {
        for file in ["header_over_512_bool_v112.h5", "header_over_512_text_v110.h5"] {
            let leaves = Fixture.leaves(try CheckpointDigest(of: HDF5Reader(path: Self.path(file))))
            let value = file.contains("bool") ? Value.bool(true) : .string("a text")
            #expect(leaves.count == 8, "\(file)")
            #expect(leaves.values.allSatisfy { $0 == value }, "\(file)")
        }
        for (file, last) in [("bool", Value.bool(true)), ("text", .string("abc"))] {
            let reader = try HDF5Reader(path: Self.path("dense_rewritten_\(file)_v112.h5"))
            let leaves = Fixture.leaves(try CheckpointDigest(of: reader))
            #expect(leaves.count == 27, "\(file)")
            #expect(leaves["good/last"] == last, "\(file)")
            #expect(leaves["good/history/11"] == .double(11), "\(file)")
            #expect(leaves["good/note2"] == .integer(3), "\(file)")
        }
    }

    /// Any byte of a header of version 2 may change, which its checksum shows, and the neighbours are read.
    @Test func aChangedHeaderCostsOneObject() throws {
        let bytes = try LocalStorage(root: Self.path("")).readAll("header_over_512_bool_v112.h5")
        let storage = MemoryStorage()
        let header = try #require(bytes.indices.dropLast(800).last { bytes[$0..<$0 + 4].elementsEqual("OHDR".utf8) })
        for position in stride(from: header + 40, to: header + 700, by: 60) {
            var changed = bytes
            changed[position] ^= 0x10
            try storage.publish(changed, as: "f.h5")
            let reader = try HDF5Reader(storage: storage, file: "f.h5")
            #expect(reader.tensors.map(\.name) == ["good"])
            #expect(reader.values.isEmpty)
            #expect(try !reader.verify(deep: false) { _ in }.isValid)
            #expect(reader.skippedEntries.contains { $0.hasPrefix("g is left out, it is damaged") }, "\(reader.skippedEntries)")
        }
    }

    @Test func aFileThatWasCutShortSaysHowMuchIsMissing() throws {
        let error = try #require(refusal { _ = try HDF5Reader(path: Self.path("cut_short.h5")) })
        #expect(error.message == "the file was cut short")
        #expect(error.context.found == "3000")
    }

    @Test func columnsOfALongTableAreTensors() throws {
        let reader = try HDF5Reader(path: Self.path("records_40000.h5"))
        let columns = reader.tensors.filter { $0.name.hasPrefix("table/") }
        #expect(columns.map(\.name) == "abcdefghij".map { "table/\($0)" })
        #expect(columns.map(\.scalarType) == (0..<10).map { $0 % 2 == 0 ? .i32 : .f64 })
        #expect(columns.allSatisfy { $0.shape == [40_000] })
    }
}
