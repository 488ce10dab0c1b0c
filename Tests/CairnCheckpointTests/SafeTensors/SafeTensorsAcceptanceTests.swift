import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor
import Testing

@Suite struct SafeTensorsAcceptanceTests {
    /// Files that the library accepts and Cairn does not, and why.
    private static let refusedBesides = [
        "duplicate_keys_same.safetensors": "the format forbids repeated names; other parsers may take the other one",
        "metadata_dup_key.safetensors": "the same, within the metadata",
    ]

    @Test func malformedFilesAreRefusedAndTheOthersReadAsTheFormatsOwnLibraryDoes() throws {
        let files = try SafeTensorsFixtures.truth("malformed").object("files")
        #expect(files.members.count > 60)
        for member in files.members {
            let expected = try member.value.asObject()
            let accepts = try expected.string("safe_open") == "accept"
            do {
                let reader = try SafeTensorsReader(
                    storage: SafeTensorsFixtures.storage, file: "malformed/" + member.key)
                #expect(accepts && Self.refusedBesides[member.key] == nil, "\(member.key) was read")
                let names = try expected.array("keys").map { try $0.asString() }
                #expect(Set(reader.tensors.map(\.name)) == Set(names), "\(member.key)")
                for tensor in reader.tensors { _ = try reader.tensor(tensor.name) }
            } catch let error as CairnError {
                #expect(!accepts || Self.refusedBesides[member.key] != nil, "\(member.key): \(error)")
                #expect(error.context.file != nil, "\(error)")
            }
        }
    }

    @Test func unknownTypesAreUnsupportedAndShortFilesIncomplete() {
        let codes: [(String, CairnError.Code)] = [
            ("unknown_dtype", .unsupported), ("lowercase_dtype", .unsupported), ("truncated_data", .incomplete),
            ("truncated_header", .incomplete), ("empty_file", .incomplete), ("header_len_past_eof", .incomplete),
            ("header_len_max_u64", .malformed), ("overlap", .malformed), ("hole_middle", .malformed),
            ("trailing_data", .malformed), ("duplicate_keys", .malformed),
        ]
        for (name, code) in codes {
            do throws(CairnError) {
                _ = try SafeTensorsReader(path: SafeTensorsFixtures.path + "/malformed/\(name).safetensors")
                Issue.record("\(name) was read")
            } catch {
                #expect(error.code == code, "\(name): \(error)")
            }
        }
    }

    @Test func metadataIsShownAndStaysMetadata() throws {
        let tied = try SafeTensorsReader(path: SafeTensorsFixtures.path + "/single/model_tied_save_model.safetensors")
        #expect(tied.metadata == [NamedValue(name: "wte.weight", value: "lm_head.weight")])
        #expect(tied.values.isEmpty && tied.tensors.allSatisfy { $0.tiedTo == nil })
        let sharded = try SafeTensorsReader(path: SafeTensorsFixtures.path + "/hf_sharded")
        #expect(sharded.metadata.map(\.name) == ["format", "total_size", "wte.weight"])
        #expect(sharded.metadata.contains(NamedValue(name: "total_size", value: 84120)))
    }
}
