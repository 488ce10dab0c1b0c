import CairnBase
import CairnProtect
import CairnStorage
import CairnStorageTesting
import CairnTesting
import Testing

/// Parity files that are damaged or made up: nothing crashes, nothing leaves the folder, and no wrong byte is ever given.
@Suite(.tags(.fuzz)) struct HostileParityTests {
    private static let sizes = [2_000, 700, 0, 1_500]

    private func sample(seed: UInt64 = 5) throws -> (storage: MemoryStorage, whole: [String: [UInt8]]) {
        let (storage, files) = try Samples.storage(Self.sizes, seed: seed)
        try Protection.protect(files.keys.sorted(), in: storage, as: "set", options: Samples.options(2))
        return (storage, try Samples.contents(of: storage))
    }

    /// Whatever is done with the parity files, the data that comes out is right, or there is an error of this package.
    private func exercise(_ storage: MemoryStorage, _ whole: [String: [UInt8]], _ place: String) throws {
        do {
            for protection in try Protection.find(in: storage) {
                _ = try protection.verify(concurrency: 1)
                _ = try protection.verify(deep: false, concurrency: 1)
                try protection.repair(concurrency: 1)
            }
            let repaired = RepairedStorage(storage)
            for entry in try repaired.list("") where entry.key.hasPrefix("file-") { _ = try repaired.readAll(entry.key) }
        } catch let error as CairnError {
            #expect([.incomplete, .corrupted, .unsupported, .malformed].contains(error.code), "\(place): \(error)")
        }
        for (name, bytes) in whole where name.hasPrefix("file-") && name != "file-0" {
            #expect(try storage.readAll(name) == bytes, "\(place): \(name)")
        }
    }

    @Test func anyByteOfAParityFileMayBeWrong() throws {
        let (storage, whole) = try sample()
        let name = "set.cairn-parity-01"
        let bytes = try #require(whole[name])
        for place in stride(from: 0, to: bytes.count, by: 7) {
            var changed = bytes
            changed[place] ^= 0x81
            try storage.publish(changed, as: name)
            try storage.delete(["file-1"])
            let protection = try #require(try Protection.find(in: storage).first)
            let report = try protection.repair(concurrency: 1)
            #expect(report.files.first { $0.location == name }?.state == .damaged, "byte \(place)")
            #expect(try Samples.contents(of: storage) == whole, "byte \(place)")
        }
    }

    @Test func oneCopyOfTheIndexIsEnough() throws {
        let (storage, whole) = try sample()
        let name = "set.cairn-parity-00"
        let bytes = try #require(whole[name])
        let cuts: [[UInt8]] = [
            // The front is gone to zeros; the end is.
            [UInt8](repeating: 0, count: 4_200) + bytes.dropFirst(4_200),
            Array(bytes.dropLast(100)),
            Array(bytes.dropLast(2_100)) + [UInt8](repeating: 7, count: 2_100),
            bytes + [1, 2, 3],
        ]
        for (number, cut) in cuts.enumerated() {
            try storage.publish(cut, as: name)
            try storage.delete(["set.cairn-parity-01", "file-2"])
            let protection = try #require(try Protection.find(in: storage).first, "\(number)")
            try protection.repair(concurrency: 1)
            #expect(try Samples.contents(of: storage) == whole, "\(number)")
        }
        // Both are gone, and there is no other file.
        try storage.publish([UInt8](repeating: 0, count: 5_000), as: name)
        try storage.delete(["set.cairn-parity-01"])
        #expect(try Protection.find(in: storage).isEmpty)
    }

    @Test func randomDamageNeverCrashes() throws {
        let (_, whole) = try sample()
        for seed in 0..<6_000 as Range<UInt64> {
            var generator = SeededGenerator(seed: seed)
            let storage = MemoryStorage()
            for (name, bytes) in whole {
                var changed = bytes
                if name.hasPrefix("set") {
                    switch Int.random(in: 0..<4, using: &generator) {
                    case 0: changed = Array(changed.prefix(Int.random(in: 0...changed.count, using: &generator)))
                    case 1: changed += Samples.bytes(Int.random(in: 1...64, using: &generator), &generator)
                    default: break
                    }
                    for _ in 0..<Int.random(in: 0...12, using: &generator) where !changed.isEmpty {
                        // Mostly in the two indices.
                        let place =
                            Int.random(in: 0..<4, using: &generator) == 0
                            ? Int.random(in: 0..<changed.count, using: &generator)
                            : min(changed.count - 1, Int.random(in: 4_090..<5_400, using: &generator))
                        changed[place] = UInt8.random(in: 0...255, using: &generator)
                    }
                }
                try storage.publish(changed, as: name)
            }
            if seed.isMultiple(of: 3) { try storage.delete(["file-0"]) }
            try exercise(storage, whole, "seed \(seed)")
        }
    }

    /// Indices whose own checksums are right: what they say is checked, too.
    @Test func randomClaimsNeverCrash() throws {
        let (_, whole) = try sample()
        let name = "set.cairn-parity-00"
        let index = try #require(whole[name].flatMap(ForgedParity.index(of:)))
        let numbers = [
            "-1", "0", "1", "3", "255", "512", "1000", "4194304", "2147483648", "9223372036854775807", "1e9", "null", "[]",
        ]
        var found = 0
        for seed in 0..<8_000 as Range<UInt64> {
            var generator = SeededGenerator(seed: seed)
            var text = String(decoding: index, as: UTF8.self)
            for _ in 0..<Int.random(in: 1...3, using: &generator) {
                text = ForgedParity.mutated(text, numbers, &generator)
            }
            let storage = MemoryStorage()
            for (name, bytes) in whole where name.hasPrefix("file-") { try storage.publish(bytes, as: name) }
            try storage.publish(ForgedParity.file(index: Array(text.utf8), like: try #require(whole[name])), as: name)
            if seed.isMultiple(of: 2) { try storage.delete(["file-0"]) }
            if let sets = try? Protection.find(in: storage), !sets.isEmpty { found += 1 }
            try exercise(storage, whole, "seed \(seed): \(text.prefix(300))")
        }
        #expect(found > 100)
    }

    @Test func namesThatLeaveTheFolderAreRefused() throws {
        let (_, whole) = try sample()
        let name = "set.cairn-parity-00"
        let index = try #require(whole[name].flatMap(ForgedParity.index(of:)))
        for outside in ["../file-0", "/etc/passwd", "a/../../b", "", ".", "a//b", "set.cairn-parity-00", "x.cairn-parity-07"] {
            let text = String(decoding: index, as: UTF8.self).replacingFirst("\"file-0\"", with: "\"\(outside)\"")
            #expect(text.utf8.count != index.count || outside.utf8.count == 6)
            let storage = MemoryStorage()
            try storage.publish(ForgedParity.file(index: Array(text.utf8), like: try #require(whole[name])), as: name)
            #expect(try Protection.find(in: storage).isEmpty, "\(outside)")
        }
        let newer = String(decoding: index, as: UTF8.self).replacingFirst("\"cairn_parity\":1", with: "\"cairn_parity\":2")
        let storage = MemoryStorage()
        try storage.publish(ForgedParity.file(index: Array(newer.utf8), like: try #require(whole[name])), as: name)
        #expect(refusal { _ = try Protection.find(in: storage) }?.code == .unsupported)
    }
}

/// Parity files with an index of one's own, whose checksums are right.
enum ForgedParity {
    /// The text of the index in a file.
    static func index(of file: [UInt8]) -> [UInt8]? {
        guard file.count > 4_128 else { return nil }
        let count = (0..<8).reduce(0) { $0 | Int(file[4_096 + 16 + $1]) << (8 * $1) }
        guard 4_128 + count <= file.count else { return nil }
        return Array(file[4_128..<4_128 + count])
    }

    /// The file with another index, and its own blocks.
    static func file(index: [UInt8], like file: [UInt8]) -> [UInt8] {
        let old = Self.index(of: file)?.count ?? 0
        let blocks = file[(4_128 + old)..<(file.count - 32 - old)]
        var mark = Array(file[4_096..<4_112])
        func append(_ value: Int, _ count: Int) {
            for place in 0..<count { mark.append(UInt8(truncatingIfNeeded: value >> (8 * place))) }
        }
        append(index.count, 8)
        append(Int(CRC32C.checksum(index.span.bytes)), 4)
        append(Int(CRC32C.checksum(mark.span.bytes)), 4)
        return Array(file[..<4_096]) + mark + index + blocks + index + mark
    }

    /// A number of the text replaced, or a piece of the text taken out or doubled.
    static func mutated(_ text: String, _ numbers: [String], _ generator: inout SeededGenerator) -> String {
        let bytes = Array(text.utf8)
        let digits = bytes.indices.filter { place in
            (0x30...0x39).contains(bytes[place]) && place > 0 && [0x5B, 0x2C, 0x3A].contains(bytes[place - 1])
        }
        guard let begin = digits.randomElement(using: &generator) else { return text }
        var end = begin
        while end < bytes.count, (0x30...0x39).contains(bytes[end]) { end += 1 }
        switch Int.random(in: 0..<8, using: &generator) {
        case 0:
            let from = Int.random(in: 0..<bytes.count, using: &generator)
            let to = min(bytes.count, from + Int.random(in: 1...20, using: &generator))
            return String(decoding: bytes[..<from] + bytes[to...], as: UTF8.self)
        case 1: return String(decoding: bytes[..<end] + [0x2C] + bytes[begin...], as: UTF8.self)
        default:
            let number = numbers.randomElement(using: &generator) ?? "0"
            return String(decoding: bytes[..<begin] + Array(number.utf8) + bytes[end...], as: UTF8.self)
        }
    }
}

extension String {
    func replacingFirst(_ part: String, with other: String) -> String {
        let (all, wanted) = (Array(utf8), Array(part.utf8))
        for place in 0...max(0, all.count - wanted.count) where all[place...].starts(with: wanted) {
            return String(decoding: all[..<place] + Array(other.utf8) + all[(place + wanted.count)...], as: UTF8.self)
        }
        return self
    }
}
