import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

@Suite struct CheckpointFormatTests {
    private let formats: CheckpointFormats = [.cairn, .safetensors, .toy]

    private func state() throws -> MemoryCheckpoint {
        MemoryCheckpoint(["a": Tensor([1, 2, 3] as [Float]), "empty": Tensor([] as [Float]), "z": Tensor([-1] as [Float])])
    }

    private func write(
        _ checkpoint: any CheckpointReader, as name: String, to path: String
    ) throws -> [String] {
        let target = try #require(formats.target(named: name))
        return try copyCheckpoint(from: checkpoint, to: target.writer(path, .init()))
    }

    @Test func aFormatOfOneFileAndOneLineIsRecognisedReadAndWritten() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path + "/x"
        var state = try state()
        state.values = [.init(name: "step", value: 3)]
        #expect(try write(state, as: "toy", to: path) == ["the value step is left out"])
        let found = try #require(try formats.recognise(path))
        #expect(found.format.name == "toy")
        let back = try MemoryCheckpoint(reading: formats.open(path))
        #expect(back.tensors == state.tensors)
        for tensor in state.tensors { #expect(try back.tensor(tensor.name) == state.tensor(tensor.name)) }
        // Into another format and back.
        let other = directory.path + "/x.safetensors"
        #expect(try write(back, as: "safetensors", to: other).isEmpty)
        #expect(try formats.recognise(other)?.format.name == "safetensors")
        #expect(try formats.open(other).tensors == state.tensors)
        #expect(formats.targets.map(\.name) == ["cairn", "safetensors", "safetensors-sharded", "toy"])
    }

    @Test func aListTakesUpFormatsOfOtherNamesOnly() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path + "/x"
        _ = try write(state(), as: "toy", to: path)
        let two: CheckpointFormats = [.cairn, .safetensors]
        #expect(try two.adding(.toy).open(path).tensors == state().tensors)
        #expect(throws: CairnError.self) { try two.open(path) }
        let error = #expect(throws: CairnError.self) { try formats.adding(.toy) }
        #expect(error?.code == .invalidArgument && error?.context.found == "toy")
        let twice = #expect(throws: CairnError.self) { try two.adding(.toy, .toy) }
        #expect(twice?.code == .invalidArgument)
    }

    /// Two formats with one mark: the caller says which.
    @Test func whatSeveralFormatsClaimIsOpenedAsTheOneThatIsNamed() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path + "/x"
        _ = try write(state(), as: "toy", to: path)
        let other = CheckpointFormat(
            name: "other", title: "another toy", kinds: [.file], recognise: CheckpointFormat.toy.recognise,
            open: { path, _ in
                var checkpoint = MemoryCheckpoint(path)
                checkpoint.add("other", Tensor([7] as [Float]))
                return .init(checkpoint)
            })
        let both = try formats.adding(other)
        let error = #expect(throws: CairnError.self) { try both.open(path) }
        #expect(error?.code == .unsupported && error?.context.advice?.contains("toy or other") == true)
        #expect(try both.open(path, as: "other").tensors.map(\.name) == ["other"])
        #expect(try both.open(path, as: "toy").tensors == state().tensors)
        #expect(throws: CairnError.self) { try both.open(path, as: "none") }
    }

    /// Names are looked up by binary search, so a reader that lists them otherwise would lack what it has.
    @Test(arguments: [["c", "a"], ["a", "a"]]) func aReaderThatIsNotSortedIsRefusedByName(names: [String]) throws {
        struct Unsorted: CheckpointReader {
            let format = "unsorted", source = "here", tensors: [TensorDescription], values: [NamedValue] = []

            func read(_ name: String, region: Region, into destination: inout MutableRawSpan) throws(CairnError) {}
        }
        let directory = try TemporaryDirectory()
        let path = directory.path + "/x"
        try LocalStorage(root: directory.path).publish([1], as: "x")
        let format = CheckpointFormat(
            name: "unsorted", title: "unsorted", kinds: [.file], recognise: { .init($0.path) },
            open: { _, _ in
                .init(Unsorted(tensors: names.map { TensorDescription(name: $0, scalarType: .f32, shape: [1]) }))
            })
        let error = #expect(throws: CairnError.self) { try CheckpointFormats([format]).open(path) }
        #expect(error?.code == .mismatch && error?.context.tensor == names[1])
    }

    @Test func aRunIsRecognisedAndItsLatestCheckpointOpened() throws {
        let directory = try TemporaryDirectory()
        let target = try #require(formats.target(named: "cairn"))
        for step in [3, 12] {
            var options = CheckpointTarget.Options()
            options.step = step
            _ = try copyCheckpoint(from: state(), to: target.writer(directory.path, options))
        }
        #expect(try formats.open(directory.path).identity?.step == 12)
        let inner = directory.path + "/step-00000003"
        for path in [inner, inner + "/manifest.json"] {
            let found = try #require(try formats.recognise(path))
            #expect(found.format.name == "cairn" && found.claim.step == 3)
            #expect(try formats.open(path).identity?.step == 3)
        }
        try LocalStorage(root: inner).delete(["manifest.json"])
        let error = #expect(throws: CairnError.self) { try formats.recognise(inner) }
        #expect(error?.code == .incomplete)
    }

    @Test func whatTwoFormatsClaimIsRefusedWithBothAndOpenedByName() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path + "/x"
        _ = try write(state(), as: "toy", to: path)
        let twin = CheckpointFormat(
            name: "twin", title: "a twin", kinds: [.file],
            recognise: { contents throws(CairnError) in .init(contents.path) },
            open: { path, _ in .init(try ToyFormat.read(path)) })
        let ambiguous = CheckpointFormats(formats.formats + [twin])
        let error = #expect(throws: CairnError.self) { try ambiguous.recognise(path) }
        #expect(error?.code == .unsupported)
        #expect(error?.context.found == "toy, twin")
        #expect(try ambiguous.recognise(path, forced: "twin")?.format.name == "twin")
    }

    @Test func aSurerFormatAndOneWhoseFilesTheyAreComeFirst() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path + "/x"
        _ = try write(state(), as: "toy", to: path)
        func format(_ name: String, _ confidence: CheckpointFormat.Confidence, instead: [String] = []) -> CheckpointFormat {
            .init(
                name: name, title: name, kinds: [.file],
                recognise: { contents throws(CairnError) in .init(contents.path, confidence, instead: instead) },
                open: { path, _ in .init(try ToyFormat.read(path)) })
        }
        let trace = CheckpointFormats([format("trace", .trace), .toy, format("kind", .kind)])
        #expect(try trace.recognise(path)?.format.name == "toy")
        let owner = CheckpointFormats([.toy, format("owner", .mark, instead: ["toy"])])
        #expect(try owner.recognise(path)?.format.name == "owner")
    }

    @Test func whatCannotBeTheFormatThatWasAskedForIsRefused() throws {
        let directory = try TemporaryDirectory()
        let wrongKind = #expect(throws: CairnError.self) { try formats.recognise(directory.path, forced: "toy") }
        #expect(wrongKind?.code == .unsupported)
        let wrongName = #expect(throws: CairnError.self) { try formats.recognise(directory.path, forced: "tyo") }
        #expect(wrongName?.code == .invalidArgument)
        let missing = #expect(throws: CairnError.self) { try formats.recognise(directory.path + "/none") }
        #expect(missing?.code == .notFound)
        #expect(try formats.recognise(directory.path) == nil)
        let unknown = #expect(throws: CairnError.self) { try formats.open(directory.path) }
        #expect(unknown?.code == .unsupported)
    }

    @Test func aWriterTakesItsCallsInOrderAndNothingAfterAnError() throws {
        let directory = try TemporaryDirectory()
        let path = directory.path + "/x"
        let tensors = try state().tensors
        func code(_ body: () throws -> Void) -> CairnError.Code? {
            (#expect(throws: CairnError.self) { try body() })?.code
        }
        let early = try ToyWriter(path: path)
        #expect(code { try early.append(([1, 2] as [UInt8]).span.bytes) } == .invalidArgument)
        #expect(code { try early.finish() } == .invalidArgument)
        _ = try early.begin(tensors: tensors, values: [])
        #expect(code { _ = try early.begin(tensors: tensors, values: []) } == .invalidArgument)
        let missing = #expect(throws: CairnError.self) { try early.finish() }
        #expect(missing?.code == .incomplete && missing?.context.tensor == "a")
        // An error is final.
        #expect(code { try early.append([UInt8](repeating: 0, count: 16).span.bytes) } == .invalidArgument)
        early.discard()
        #expect(try LocalStorage(root: directory.path).list("").isEmpty)

        let late = try ToyWriter(path: path)
        _ = try late.begin(tensors: tensors, values: [])
        try late.append([UInt8](repeating: 0, count: 16).span.bytes)
        #expect(code { try late.append(([1] as [UInt8]).span.bytes) } == .invalidArgument)
        late.discard()
        #expect(try LocalStorage(root: directory.path).list("").isEmpty)

        let whole = try ToyWriter(path: path)
        _ = try whole.begin(tensors: tensors, values: [])
        for _ in 0..<16 { try whole.append(([0] as [UInt8]).span.bytes) }
        try whole.finish()
        #expect(code { try whole.finish() } == .invalidArgument)
        whole.discard()
        #expect(try formats.open(path).tensors == tensors)
    }
}
