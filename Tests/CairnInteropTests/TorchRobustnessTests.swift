import CairnBase
import CairnCheckpoint
import CairnInterop
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

/// Files of `torch.save` with anything wrong with them end in an error, never in a crash.
@Suite struct TorchRobustnessTests {
    /// Opens a file and reads all that it lists.
    private func readAll(_ bytes: [UInt8]) throws {
        let storage = MemoryStorage()
        try storage.publish(bytes, as: "file.pt")
        let reader = try TorchReader(storage: storage, file: "file.pt")
        for tensor in reader.tensors where tensor.byteCount < 1 << 20 { _ = try? reader.tensor(tensor.name) }
    }

    /// A zip archive of stored records, as small as can be.
    private func archive(_ records: [(name: String, bytes: [UInt8])]) -> [UInt8] { TestArchive(records).bytes }

    private func refusal(_ bytes: [UInt8]) throws -> CairnError {
        do {
            try readAll(bytes)
        } catch {
            return try #require(error as? CairnError)
        }
        Issue.record("nothing was refused")
        return CairnError(.cancelled, "")
    }

    @Test func mutatedPicklesNeverCrash() throws {
        let seed = UInt64.random(in: .min ... .max)
        var generator = SeededGenerator(seed: seed)
        var intact = 0
        for file in ["train_full/ckpt.pt", "dtypes/dtypes.pt", "views/views.pt", "state_dict/model_proto5.pth"] {
            let storage = MemoryStorage()
            try storage.publish(Fixture.bytes("torch/" + file), as: "f")
            let zip = try ZipArchive(storage.open("f"))
            var records: [(name: String, bytes: [UInt8])] = []
            for entry in zip.entries where entry.byteCount < 1 << 14 || entry.name.hasSuffix("data.pkl") {
                records.append((entry.name, try zip.bytes(entry.name, limit: 1 << 20)))
            }
            let place = try #require(records.firstIndex { $0.name.hasSuffix("data.pkl") })
            let pickle = records[place].bytes
            for _ in 0..<400 {
                records[place].bytes = pickle
                for _ in 0..<Int.random(in: 1...4, using: &generator) {
                    let index = Int.random(in: 0..<pickle.count, using: &generator)
                    switch Int.random(in: 0...2, using: &generator) {
                    case 0: records[place].bytes[index] = .random(in: 0...255, using: &generator)
                    case 1: records[place].bytes[index] ^= 1 << UInt8.random(in: 0...7, using: &generator)
                    default:
                        let other = Int.random(in: 0..<pickle.count, using: &generator)
                        records[place].bytes.swapAt(index, other)
                    }
                }
                do {
                    try readAll(archive(records))
                    intact += 1
                } catch {
                    #expect(error is CairnError, "seed \(seed): \(error)")
                }
            }
        }
        // Many changes only touch text; if none got through, the archive itself would be wrong.
        #expect(intact > 0, "seed \(seed)")
    }

    @Test func mutatedArchivesNeverCrash() throws {
        let seed = UInt64.random(in: .min ... .max)
        var generator = SeededGenerator(seed: seed)
        let file = try Fixture.bytes("torch/other_containers/rezipped_deflate.pt")
        let directory = try Fixture.bytes("torch/views/views.pt")
        for (bytes, least) in [(file, 0), (directory, directory.count - 2_000)] {
            for _ in 0..<2_000 {
                var changed = bytes
                for _ in 0..<Int.random(in: 1...3, using: &generator) {
                    let index = Int.random(in: least..<bytes.count, using: &generator)
                    changed[index] = .random(in: 0...255, using: &generator)
                }
                if Int.random(in: 0...9, using: &generator) == 0 {
                    changed.removeLast(Int.random(in: 1..<changed.count, using: &generator))
                }
                do { try readAll(changed) } catch { #expect(error is CairnError, "seed \(seed): \(error)") }
            }
        }
    }

    @Test func archivesThatContradictThemselvesAreRefused() throws {
        let pickle: [UInt8] = Array("}.".utf8)
        try readAll(archive([("a/data.pkl", pickle)]))
        #expect(try refusal(archive([("a/data.pkl", pickle), ("a/data.pkl", pickle)])).code == .malformed)
        #expect(try refusal(archive([("a/data.pkl", pickle), ("b/data.pkl", pickle)])).code == .unsupported)
        #expect(try refusal(archive([("a/other", pickle)])).code == .unsupported)
        #expect(try refusal(archive([])).code == .unsupported)
        #expect(try refusal(archive([("a/data.pkl", pickle), ("a/byteorder", Array("middle".utf8))])).code == .unsupported)
        // Both records at the place of the first.
        var overlapping = archive([("a/data.pkl", pickle), ("a/data.pkm", pickle)])
        let second = try #require(overlapping.lastIndex(of: UInt8(ascii: "m"))) - 10 - 3
        overlapping.replaceSubrange(second - 0..<second + 4, with: [0, 0, 0, 0])
        #expect(try refusal(overlapping).code == .malformed)
    }

    /// A pickle with one tensor `t` of so many elements of a storage of eight bytes.
    private func pickle(offset: Int, size: String, stride: String) -> [UInt8] {
        Array(
            """
            (dVt
            ctorch._utils
            _rebuild_tensor_v2
            ((Vstorage
            ctorch
            FloatStorage
            V0
            Vcpu
            I2
            tQI\(offset)
            \(size)\(stride)I00
            ccollections
            OrderedDict
            (tRtRs.
            """.utf8)
    }

    @Test func viewsBeyondTheirStorageAreRefused() throws {
        func bytes(_ offset: Int, _ size: String, _ stride: String) -> [UInt8] {
            archive([
                ("a/data.pkl", pickle(offset: offset, size: size, stride: stride)),
                ("a/data/0", [UInt8](repeating: 1, count: 8)),
            ])
        }
        try readAll(bytes(0, "(I2\nt", "(I1\nt"))
        for (offset, size, stride) in [
            (0, "(I3\nt", "(I1\nt"), (1, "(I2\nt", "(I1\nt"), (-1, "(I2\nt", "(I1\nt"), (0, "(I2\nt", "(I-1\nt"),
            (0, "(I2\nt", "(I9223372036854775807\nt"), (0, "(I-2\nt", "(I1\nt"), (0, "(I2\nI2\nt", "(I1\nt"),
            (0, "(I4294967296\nI4294967296\nt", "(I0\nI0\nt"), (9_223_372_036_854_775_807, "(I2\nt", "(I1\nt"),
        ] {
            #expect(try refusal(bytes(offset, size, stride)).code == .malformed, "\(offset) \(size) \(stride)")
        }
        // Eight bytes that claim to be a hundred gigabytes.
        let repeated = try refusal(bytes(0, "(I25000000000\nt", "(I0\nt"))
        #expect(repeated.code == .unsupported)
        #expect(repeated.context.tensor == "t")
    }

    @Test func statesThatHoldThemselvesOrDoubleAtEveryStepAreRefused() throws {
        #expect(try refusal(archive([("a/data.pkl", Array("(lp0\ng0\na.".utf8))])).code == .unsupported)
        var doubling = "I1\np0\n"
        for step in 1...60 { doubling += "0(g\(step - 1)\ng\(step - 1)\ntp\(step)\n" }
        #expect(try refusal(archive([("a/data.pkl", Array((doubling + ".").utf8))])).code == .unsupported)
    }

    @Test func keysThatJoinToOneNameGetDifferentNames() throws {
        func tensor(_ key: String) -> String {
            let text = String(decoding: pickle(offset: 0, size: "(I2\nt", stride: "(I1\nt"), as: UTF8.self)
            return "V\(key)\n" + text.dropFirst(5).dropLast(2) + "s"
        }
        let nested = "(dVa\n(d" + tensor("b.c") + "sVa.b\n(d" + tensor("c") + "s."
        let storage = MemoryStorage()
        try storage.publish(
            archive([("x/data.pkl", Array(nested.utf8)), ("x/data/0", [UInt8](repeating: 1, count: 8))]), as: "f")
        let reader = try TorchReader(storage: storage, file: "f")
        #expect(reader.tensors.map(\.name) == ["a.b\\.c", "a\\.b.c"])
    }
}
