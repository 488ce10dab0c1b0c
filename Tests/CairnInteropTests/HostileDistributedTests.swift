import CairnBase
import CairnCheckpoint
import CairnInterop
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

/// Metadata of torch.distributed.checkpoint that mean harm.
@Suite struct HostileDistributedTests {
    /// Metadata of one tensor of bytes, in protocol 0, with any part replaced.
    private struct Metadata {
        var name = "w"
        var file = "__0_0.distcp"
        var offset = "I0"
        var length = "I4"
        var size = "I4\n"
        var chunkOffset = "I0\n"
        var chunkSize = "I4\n"
        var transforms: [String] = []
        /// How often the chunk is listed again.
        var repetitions = 0
        /// How many other names the same description of a tensor has.
        var otherNames = 0

        private static let module = "torch.distributed.checkpoint.metadata"

        private func size(_ text: String) -> String { "ctorch\nSize\n((\(text)ttR" }

        /// An object of a class with fields.
        private func object(_ name: String, _ fields: [(String, String)], module: String = Self.module) -> String {
            "c\(module)\n\(name)\n)\u{81}(d" + fields.map { "V\($0.0)\n\($0.1)s" }.joined() + "b"
        }

        var bytes: [UInt8] {
            let properties = object("TensorProperties", [("dtype", "ctorch\nuint8\n")])
            let chunk = object("ChunkStorageMetadata", [("offsets", size(chunkOffset)), ("sizes", size(chunkSize))])
            let chunks = "(l\(chunk)p7\na" + String(repeating: "g7\na", count: repetitions)
            let tensor = object(
                "TensorStorageMetadata",
                [("properties", properties), ("size", size(size)), ("chunks", chunks)])
            let index = object(
                "MetadataIndex", [("fqn", "V\(name)\n"), ("offset", size(chunkOffset)), ("index", "I0\n")])
            var fields = [("relative_path", "V\(file)\n"), ("offset", offset + "\n"), ("length", length + "\n")]
            if !transforms.isEmpty {
                fields.append(("transform_descriptors", "(l" + transforms.map { "V\($0)\na" }.joined()))
            }
            let place = object("_StorageInfo", fields, module: "torch.distributed.checkpoint.filesystem")
            let names = (0..<otherNames).map { "Vother\($0)\ng8\ns" }.joined()
            let all = object(
                "Metadata",
                [
                    ("state_dict_metadata", "(dV\(name)\n\(tensor)p8\ns\(names)"), ("planner_data", "(d"),
                    ("storage_data", "(d\(index)\(place)s"),
                ])
            return all.unicodeScalars.map { UInt8($0.value) } + [0x2E]
        }
    }

    private func refusal(_ metadata: [UInt8], _ item: [UInt8] = [1, 2, 3, 4]) -> CairnError? {
        let storage = MemoryStorage()
        do {
            try storage.publish(metadata, as: "run/.metadata")
            try storage.publish(item, as: "run/__0_0.distcp")
            try storage.publish([9, 9, 9, 9], as: "outside")
            let reader = try DistributedCheckpointReader(storage: storage, prefix: "run/", source: "memory")
            for tensor in reader.tensors { _ = try reader.tensor(tensor.name) }
            return nil
        } catch {
            return error as? CairnError
        }
    }

    @Test func namesThatLeaveTheCheckpointAreRefused() {
        #expect(refusal(Metadata().bytes) == nil)
        for file in ["../outside", "..", "/etc/passwd", "a/../../outside", "./__0_0.distcp", "a//b", ""] {
            var metadata = Metadata()
            metadata.file = file
            #expect(refusal(metadata.bytes)?.code == .malformed, "\(file)")
        }
    }

    @Test func placesAndSizesThatCannotBeAreRefused() {
        let large = "I9223372036854775807", huge = "I4611686018427387904"
        let changes: [(inout Metadata) -> Void] = [
            { $0.offset = large }, { $0.length = large }, { ($0.offset, $0.length) = (huge, huge) },
            { $0.offset = "I-1" }, { $0.length = "I-4" }, { $0.length = "I3" }, { $0.size = "I-4\n" },
            { $0.chunkSize = "I-4\n" },
            { $0.chunkOffset = "I-1\n" }, { $0.chunkOffset = large + "\n" }, { $0.size = large + "\n" },
            { ($0.size, $0.chunkSize) = (large + "\n", large + "\n") },
            { ($0.size, $0.chunkSize) = (huge + "\n" + huge + "\n", huge + "\n" + huge + "\n") },
            { $0.chunkSize = "I4\nI1\n" }, { $0.size = "I4\nI1\n" },
            { $0.chunkOffset = String(repeating: "I0\n", count: 100_000) },
            { $0.transforms = Array(repeating: "stream.zstd/1", count: 100_000) },
            { $0.transforms = ["stream.other/1"] },
        ]
        for (index, change) in changes.enumerated() {
            var metadata = Metadata()
            change(&metadata)
            let found = refusal(metadata.bytes)?.code
            #expect([.malformed, .incomplete, .unsupported].contains(found), "\(index): \(found as Any)")
        }
    }

    /// Zstandard frames of zeros.
    private static func frames(byteCount: Int) -> [UInt8] {
        // One frame of 2^20 zeros as RFC 8878 has it: a window of 1 MiB, eight blocks of one byte repeated, without a
        // checksum.
        var frame: [UInt8] = [0x28, 0xB5, 0x2F, 0xFD, 0, 0x50]
        for index in 0..<8 {
            let header = 1 << 20 | 1 << 1 | (index == 7 ? 1 : 0)
            frame += [UInt8(header & 0xFF), UInt8(header >> 8 & 0xFF), UInt8(header >> 16), 0]
        }
        return Array(repeatElement(frame, count: byteCount >> 20).joined())
    }

    @Test func compressedItemsAreExpandedInPieces() async {
        await #expect(processExitsWith: .success) {
            let byteCount = 512 << 20
            let item = HostileDistributedTests.frames(byteCount: byteCount)
            var metadata = Metadata()
            metadata.transforms = ["stream.zstd/1"]
            metadata.length = "I\(item.count)"
            (metadata.size, metadata.chunkSize) = ("I\(byteCount)\n", "I\(byteCount)\n")
            let storage = MemoryStorage()
            try storage.publish(metadata.bytes, as: ".metadata")
            try storage.publish(item, as: "__0_0.distcp")
            try PeakMemory.requireGrowth(below: 64 << 20) {
                let reader = try DistributedCheckpointReader(storage: storage, source: "memory")
                var total = 0
                for offset in stride(from: 0, to: byteCount, by: 4 << 20) {
                    var bytes = [UInt8](repeating: 1, count: 4 << 20)
                    var span = bytes.mutableSpan
                    var raw = span.mutableBytes
                    try reader.read("w", region: Region(offsets: [offset], shape: Shape([4 << 20])), into: &raw)
                    total += bytes.count { $0 == 0 }
                }
                precondition(total == byteCount)
            }
        }
    }

    @Test func itemsThatExpandToMoreThanTheirElementsAreRefused() async {
        await #expect(processExitsWith: .success) {
            let item = HostileDistributedTests.frames(byteCount: 1 << 30)
            var metadata = Metadata()
            metadata.transforms = ["stream.zstd/1"]
            metadata.length = "I\(item.count)"
            PeakMemory.requireGrowth(below: 32 << 20) {
                precondition(HostileDistributedTests().refusal(metadata.bytes, item)?.code == .unsupported)
            }
        }
    }

    @Test func descriptionsThatStandForManyAreRefused() {
        var metadata = Metadata()
        metadata.repetitions = 50
        #expect(refusal(metadata.bytes) == nil)
        // Without an end to it: thousands of tensors with the same list of thousands of chunks, all alike.
        metadata.repetitions = 20_000
        metadata.otherNames = 20_000
        #expect(refusal(metadata.bytes)?.code == .incomplete)
        metadata.otherNames = 0
        #expect(refusal(metadata.bytes) == nil)
    }
}
