import CairnBase
import CairnCheckpoint
import CairnInterop
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

/// Small pickles that would make something huge, take forever or nest without end are refused; little memory is used.
@Suite struct HostilePickleTests {
    private static let flat = 48 << 20

    private static func refusal(_ pickle: [UInt8]) -> CairnError.Code? {
        let storage = MemoryStorage()
        do {
            try storage.publish(TestArchive([("a/data.pkl", pickle)]).bytes, as: "f")
            let reader = try TorchReader(storage: storage, file: "f")
            for tensor in reader.tensors { _ = try reader.tensor(tensor.name) }
            return nil
        } catch {
            return (error as? CairnError)?.code
        }
    }

    private static func little(_ value: Int, _ byteCount: Int) -> [UInt8] {
        (0..<byteCount).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    }

    private static func text(_ text: String) -> [UInt8] { [0x58] + little(text.utf8.count, 4) + Array(text.utf8) }

    private static func put(_ key: Int) -> [UInt8] { [0x72] + little(key, 4) }

    private static func get(_ key: Int) -> [UInt8] { [0x6A] + little(key, 4) }

    @Test func lengthsBeyondTheFileCostNothing() async {
        await #expect(processExitsWith: .success) {
            let huge: [[UInt8]] = [
                [UInt8](repeating: 0xFF, count: 8), [UInt8](repeating: 0xFF, count: 7) + [0x7F],
                [0, 0, 0, 0, 0, 0, 0, 0x80], [0, 0, 0, 0, 0, 0, 0, 0x40], [0, 0, 0, 0, 0x10, 0, 0, 0],
            ]
            PeakMemory.requireGrowth(below: 16 << 20) {
                // BINBYTES8, BYTEARRAY8, BINUNICODE8, FRAME; with four bytes LONG4, BINBYTES, BINUNICODE, BINSTRING.
                for opcode: UInt8 in [0x8E, 0x96, 0x8D, 0x95] {
                    for length in huge {
                        precondition(HostilePickleTests.refusal([0x80, 4, opcode] + length + [1, 2, 0x2E]) != nil)
                    }
                }
                for opcode in [0x8B, UInt8(ascii: "B"), UInt8(ascii: "X"), UInt8(ascii: "T")] {
                    for length: [UInt8] in [[0xFF, 0xFF, 0xFF, 0xFF], [0xFF, 0xFF, 0xFF, 0x7F], [0, 0, 0, 0x80]] {
                        precondition(HostilePickleTests.refusal([0x80, 2, opcode] + length + [1, 2, 0x2E]) != nil)
                    }
                }
            }
        }
    }

    @Test func nestingWithoutEndIsRefused() async {
        await #expect(processExitsWith: .success) {
            let count = 200_000
            // Lists in lists, tuples in tuples, dictionaries in dictionaries, wrappers around wrappers.
            let lists = [UInt8](repeating: 0x5D, count: count) + [UInt8](repeating: 0x61, count: count - 1) + [0x2E]
            let tuples = [0x29] + [UInt8](repeating: 0x85, count: count) + [0x2E]
            let pair = [0x7D] + HostilePickleTests.text("k")
            let dictionaries =
                Array(repeatElement(pair, count: count).joined()) + [0x4E]
                + [UInt8](repeating: 0x73, count: count) + [0x2E]
            let call = Array("ctorch.jit._pickle\nrestore_type_tag\n".utf8) + HostilePickleTests.put(1)
            let wrappers =
                call + [0x30]
                + Array(repeatElement(HostilePickleTests.get(1), count: count).joined()) + [0x4E]
                + Array(repeatElement([0x85, 0x52], count: count).joined()) + [0x2E]
            PeakMemory.requireGrowth(below: 160 << 20) {
                for pickle in [lists, tuples, dictionaries, wrappers] {
                    precondition(HostilePickleTests.refusal(pickle) == .unsupported)
                }
            }
        }
    }

    @Test func sharedPartsThatDoubleAtEveryStepAreRefused() async {
        await #expect(processExitsWith: .success) {
            // A hundred and sixty levels down, then doubling: every leaf has a long path.
            for end in [0x86, 0x61] as [UInt8] {
                var pickle: [UInt8] = HostilePickleTests.text("leaf")
                for step in 0..<30 {
                    pickle += HostilePickleTests.put(step)
                    pickle +=
                        end == 0x86
                        ? HostilePickleTests.get(step) + [0x86]
                        : [0x5D] + HostilePickleTests.get(step) + [0x61] + HostilePickleTests.get(step) + [0x61]
                }
                pickle += [UInt8](repeating: 0x85, count: 160) + [0x2E]
                precondition(pickle.count < 1000)
                PeakMemory.requireGrowth(below: HostilePickleTests.flat) {
                    precondition(HostilePickleTests.refusal(pickle) == .unsupported)
                }
            }
        }
    }

    @Test func textThatBecomesBytesOverAndOverIsRefused() async {
        await #expect(processExitsWith: .success) {
            // A megabyte of text, of which sixteen thousand calls would make bytes.
            let arguments =
                HostilePickleTests.text(String(repeating: "x", count: 1 << 20))
                + HostilePickleTests.text("latin1") + [0x86] + HostilePickleTests.put(1) + [0x30]
            let function = Array("c_codecs\nencode\n".utf8) + HostilePickleTests.put(2) + [0x30]
            let call = HostilePickleTests.get(2) + HostilePickleTests.get(1) + [0x52]
            let calls = Array(repeatElement(call, count: 1 << 14).joined())
            let pickle = arguments + function + [0x5D, 0x28] + calls + [0x65, 0x2E]
            PeakMemory.requireGrowth(below: 128 << 20) {
                precondition(HostilePickleTests.refusal(pickle) == .unsupported)
            }
        }
    }

    @Test func objectsThatShareWhatTheyHoldAreNotSearchedOverAndOver() async {
        await #expect(processExitsWith: .success) {
            // Objects of an unknown class, each with the same hundred thousand things.
            let things = [0x28] + [UInt8](repeating: 0x5D, count: 100_000) + [0x74] + HostilePickleTests.put(1) + [0x30]
            let unknown = Array("cmy.module\nThing\n".utf8) + HostilePickleTests.put(2) + [0x30]
            let call = HostilePickleTests.get(2) + HostilePickleTests.get(1) + [0x52]
            let calls = Array(repeatElement(call, count: 50_000).joined())
            let pickle = things + unknown + [0x5D, 0x28] + calls + [0x65, 0x2E]
            PeakMemory.requireGrowth(below: 128 << 20) {
                precondition(HostilePickleTests.refusal(pickle) == .unsupported)
            }
        }
    }

    @Test func aListOfOneSharedThingIsRead() throws {
        // What is short because it repeats itself is not an attack.
        let count = 300_000
        let list =
            HostilePickleTests.text("cpu") + Self.put(1) + [0x30, 0x5D, 0x28]
            + Array(repeatElement([0x68, 1], count: count).joined()) + [0x65, 0x2E]
        let storage = MemoryStorage()
        try storage.publish(TestArchive([("a/data.pkl", list)]).bytes, as: "f")
        #expect(try TorchReader(storage: storage, file: "f").values.count == count)
    }

    @Test func absurdShapesAreRefused() {
        func pickle(_ extents: String, _ strides: String, _ count: String = "I2\n") -> [UInt8] {
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
                \(count)tQI0
                (\(extents)t(\(strides)tI00
                ccollections
                OrderedDict
                (tRtRs.
                """.utf8)
        }
        let many = String(repeating: "I1\n", count: 70_000)
        let large = "I9223372036854775807\n", negative = "I-1\n", beyond = "I9223372036854775808\n"
        for (extents, strides, count) in [
            (large + large, "I0\nI0\n", "I2\n"), (large, "I1\n", "I2\n"), (negative, "I1\n", "I2\n"),
            (beyond, "I1\n", "I2\n"), ("I2\n", beyond, "I2\n"), ("I2\n", "I1\n", large), ("I2\n", "I1\n", negative),
            ("I2\n", "I1\n", beyond), ("I3037000500\nI3037000500\n", "I0\nI0\n", "I2\n"), ("Vx\n", "I1\n", "I2\n"),
            (many, many, "I1\n"),
        ] {
            let found = Self.refusal(pickle(extents, strides, count))
            #expect(
                [.malformed, .unsupported, .incomplete].contains(found),
                "\(extents.prefix(40)) \(count): \(found as Any)")
        }
    }
}
