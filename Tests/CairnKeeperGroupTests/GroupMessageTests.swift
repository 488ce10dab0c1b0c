import CairnBase
import CairnKeeper
import CairnKeeperGroup
import CairnStorage
import CairnTesting
import Testing

@Suite struct GroupMessageTests {
    private static let job = KeeperTable.JobName(user: 1000, name: "kjv")
    private static let step = GroupStep(job: job, step: 40, saveID: "0123456789abcdef0123456789abcdef")

    private static func samples() throws -> [GroupMessage] {
        [
            .state(
                GroupState(
                    incarnation: 17, number: 3, asks: true,
                    entries: [
                        .init(step: step, modified: 99, byteCount: 1234, progress: .complete),
                        .init(step: step, modified: 100, byteCount: 5, progress: .failed),
                    ], running: [job])),
            .drop([step]), .list(job, prefix: "step-", after: nil), .list(job, prefix: "", after: "step-00000001/x"),
            .find(job, key: "step-00000040/manifest.json"),
            .read(job, key: "a/b", modified: 5, offset: 6, count: 7), .delete(job, keys: ["a", "b"]),
            .describe(step, member: 2), .bundle(step, offset: 64, count: 4 << 20),
            .parity(step, stripe: 1, offset: 0, count: 64),
            .entries([StorageEntry(key: "a", byteCount: 5, modified: 6)], isComplete: false), .bytes([1, 2, 3]),
            .descriptor(try BundleDescriptor(items: [.init(key: "a", byteCount: 65)], checksums: [1, 2])), .done, .none,
            .later,
        ]
    }

    @Test func aMessageComesAsItWasSent() throws {
        for message in try Self.samples() {
            let frame = GroupFrame(group: 5, number: 1 << 60, message: message)
            #expect(try GroupFrame(parsing: frame.encoded, of: 5) == frame)
            #expect(refusal { _ = try GroupFrame(parsing: frame.encoded, of: 6) }?.code == .mismatch)
        }
    }

    @Test(.tags(.fuzz)) func aChangedFrameIsRefusedAndAChangedMessageNeverHarms() throws {
        let seed = UInt64.random(in: 0...UInt64.max)
        var generator = SeededGenerator(seed: seed)
        let samples = try Self.samples()
        for _ in 0..<100_000 {
            let message = try #require(samples.randomElement(using: &generator))
            var bytes = try GroupFrame(group: 5, number: 9, message: message).encoded
            let original = bytes
            for _ in 0..<Int.random(in: 1...3, using: &generator) {
                switch Int.random(in: 0..<4, using: &generator) {
                case 0: bytes[Int.random(in: bytes.indices, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
                case 1: bytes.removeLast(Int.random(in: 0..<bytes.count, using: &generator))
                case 2: bytes.append(UInt8.random(in: 0...255, using: &generator))
                default: bytes.insert(0, at: Int.random(in: bytes.indices, using: &generator))
                }
                if bytes.isEmpty { bytes = [0] }
            }
            let error = refusal { _ = try GroupFrame(parsing: bytes, of: 5) }
            #expect((error == nil) == (bytes == original), "seed \(seed)")
            // With a right checksum around it, as from a member that errs: it is read or refused.
            guard bytes.count > 25 else { continue }
            if let changed = try? GroupMessage(parsing: bytes[25...]) {
                #expect(try GroupMessage(parsing: changed.encoded[...]) == changed, "seed \(seed)")
            }
        }
    }

    @Test func aMessageIsBounded() throws {
        let large = GroupFrame(group: 1, number: 1, message: .bytes([UInt8](repeating: 0, count: 5 << 20)))
        #expect(refusal { _ = try large.encoded }?.code == .unsupported)
        let greedy = GroupMessage.bundle(Self.step, offset: 0, count: 5 << 20).encoded
        #expect(refusal { _ = try GroupMessage(parsing: greedy[...]) }?.code == .malformed)
        // A count that no message has room for takes no memory.
        var bytes: [UInt8] = [2]
        bytes.append(littleEndian: UInt64(1) << 60)
        #expect(refusal { _ = try GroupMessage(parsing: bytes[...]) }?.code == .malformed)
    }
}
