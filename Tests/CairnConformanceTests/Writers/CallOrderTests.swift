import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

/// Calls in another order than promised are typed errors, and never make or harm a checkpoint.
@Suite struct CallOrderTests {
    private let bytes: [UInt8] = [1, 2, 3, 4, 5, 6, 7, 8]

    private func tensors(_ format: WritableFormat) -> [TensorDescription] {
        [TensorDescription(name: format.tensorName("w"), scalarType: .f32, shape: [2])]
    }

    private func expectRefusal(
        _ code: CairnError.Code, _ what: String, _ body: () throws -> Void
    ) {
        let error = refusal(body)
        #expect(error?.code == code, "\(what): \(String(describing: error))")
    }

    @Test(arguments: WritableFormat.all) func nothingComesBeforeTheBeginning(format: WritableFormat) throws {
        let storage = MemoryStorage()
        let writer = try format.makeWriter(storage, false)
        expectRefusal(.invalidArgument, "append") { try writer.append(bytes.span.bytes) }
        expectRefusal(.invalidArgument, "finish") { try writer.finish() }
        writer.discard()
        #expect(try storage.list("").isEmpty)
    }

    @Test(arguments: WritableFormat.all) func aSecondBeginningIsRefused(format: WritableFormat) throws {
        let storage = MemoryStorage()
        let writer = try format.makeWriter(storage, false)
        _ = try writer.begin(tensors: tensors(format), values: [])
        expectRefusal(.invalidArgument, "begin") { _ = try writer.begin(tensors: tensors(format), values: []) }
        // The first one goes on.
        try writer.append(bytes.span.bytes)
        try writer.finish()
        #expect(try format.open(storage).whole(format.tensorName("w")) == bytes)
    }

    @Test(arguments: WritableFormat.all) func tooFewBytesAreNoCheckpoint(format: WritableFormat) throws {
        for count in [0, 1, 7] {
            let storage = MemoryStorage()
            let writer = try format.makeWriter(storage, false)
            _ = try writer.begin(tensors: tensors(format), values: [])
            try writer.append(bytes.span.bytes.extracting(0..<count))
            expectRefusal(.incomplete, "finish") { try writer.finish() }
            writer.discard()
            #expect(try storage.list("").isEmpty)
        }
    }

    @Test(arguments: WritableFormat.all) func tooManyBytesAreRefused(format: WritableFormat) throws {
        for count in [8, 3] {
            let storage = MemoryStorage()
            let writer = try format.makeWriter(storage, false)
            _ = try writer.begin(tensors: tensors(format), values: [])
            try writer.append(bytes.span.bytes.extracting(0..<count))
            expectRefusal(.invalidArgument, "append") {
                try writer.append((bytes + [9]).span.bytes.extracting(count == 8 ? 8..<9 : 0..<9))
            }
            writer.discard()
            #expect(try storage.list("").isEmpty)
        }
    }

    @Test(arguments: WritableFormat.all) func nothingComesAfterTheEnd(format: WritableFormat) throws {
        let storage = MemoryStorage()
        let writer = try format.makeWriter(storage, false)
        _ = try writer.begin(tensors: tensors(format), values: [])
        try writer.append(bytes.span.bytes)
        try writer.finish()
        let whole = try storage.contents()
        expectRefusal(.invalidArgument, "append") { try writer.append(bytes.span.bytes) }
        expectRefusal(.invalidArgument, "finish") { try writer.finish() }
        expectRefusal(.invalidArgument, "begin") { _ = try writer.begin(tensors: tensors(format), values: []) }
        writer.discard()
        #expect(try storage.contents() == whole)
    }

    @Test(arguments: WritableFormat.all) func whatIsGivenUpLeavesNothingAndStaysGivenUp(format: WritableFormat) throws {
        for begins in [true, false] {
            let storage = MemoryStorage()
            let writer = try format.makeWriter(storage, false)
            if begins {
                _ = try writer.begin(tensors: tensors(format), values: [])
                try writer.append(bytes.span.bytes.extracting(0..<5))
            }
            writer.discard()
            writer.discard()
            #expect(try storage.list("").isEmpty)
            expectRefusal(.invalidArgument, "append") { try writer.append(bytes.span.bytes) }
            expectRefusal(.invalidArgument, "finish") { try writer.finish() }
            expectRefusal(.invalidArgument, "begin") { _ = try writer.begin(tensors: tensors(format), values: []) }
            #expect(try storage.list("").isEmpty)
        }
    }

    @Test(arguments: WritableFormat.all) func aWriterThatIsForgottenLeavesNothing(format: WritableFormat) throws {
        let storage = MemoryStorage()
        do {
            let writer = try format.makeWriter(storage, false)
            _ = try writer.begin(tensors: tensors(format), values: [NamedValue(name: "step", value: 1)])
            try writer.append(bytes.span.bytes)
        }
        #expect(try storage.list("").isEmpty)
    }
}
