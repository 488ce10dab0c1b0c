import CairnBase
import CairnProtect
import CairnStorage
import CairnTesting
import Testing

/// Blocks that rot here and there, in data and parity: as many in a stripe as there is parity come back, one more is refused.
@Suite(.tags(.fuzz)) struct RottenBlockTests {
    /// Four files of one column each, in blocks of 512 bytes.
    private struct Sample {
        static let sizes = [6_000, 5_500, 5_121, 4_800, 900]
        let storage: MemoryStorage
        let protection: Protection
        let whole: [String: [UInt8]]
        /// Where the blocks of each row are: the file and where it begins in it.
        let rows: [(name: String, start: Int, byteCount: Int)]

        init(parity: Int) throws {
            let (storage, files) = try Samples.storage(Self.sizes, seed: 7)
            self.storage = storage
            protection = try Protection.protect(
                files.keys.sorted(), in: storage, as: "set", options: Samples.options(parity, layout: .files))
            whole = try Samples.contents(of: storage)
            var rows = Self.sizes.enumerated().map { (name: "file-\($0)", start: 0, byteCount: $1) }
            for name in protection.parityFileNames {
                // The blocks stand between two copies of the index, the first behind a header.
                let length = whole[name]?.count ?? 0
                rows.append((name: name, start: (length - 4_096 - 6_000) / 2 + 4_096, byteCount: 6_000))
            }
            self.rows = rows
        }

        /// Changes a byte of the block; nothing where the row has none.
        func damage(
            row: Int, stripe: Int, _ contents: inout [String: [UInt8]], _ generator: inout SeededGenerator
        ) -> Bool {
            let (name, start, byteCount) = rows[row]
            guard stripe * 512 < byteCount else { return false }
            let range = stripe * 512..<min(byteCount, (stripe + 1) * 512)
            contents[name]?[start + Int.random(in: range, using: &generator)] ^= UInt8.random(in: 1...255, using: &generator)
            return true
        }
    }

    @Test(arguments: 1...4) func upToTheParityOfEveryStripeComesBack(_ parity: Int) throws {
        let sample = try Sample(parity: parity)
        for seed in 0..<600 as Range<UInt64> {
            var generator = SeededGenerator(seed: seed)
            var contents = sample.whole
            var worst = 0
            for stripe in 0..<12 {
                let count = Int.random(in: 0...parity, using: &generator)
                var damaged = 0
                for row in sample.rows.indices.shuffled(using: &generator).prefix(count)
                where sample.damage(row: row, stripe: stripe, &contents, &generator) { damaged += 1 }
                worst = max(worst, damaged)
            }
            for (name, bytes) in contents { try sample.storage.publish(bytes, as: name) }
            let protection = try #require(try Protection.find(in: sample.storage).first, "seed \(seed)")
            let report = try protection.repair(concurrency: 1)
            #expect(report.remainingLosses == parity - worst, "seed \(seed)")
            #expect(report.isIntact == (worst == 0), "seed \(seed)")
            #expect(try Samples.contents(of: sample.storage) == sample.whole, "seed \(seed)")
        }
    }

    @Test(arguments: 1...4) func oneMoreInAStripeIsRefusedByNameAndChangesNothing(_ parity: Int) throws {
        let sample = try Sample(parity: parity)
        for seed in 0..<200 as Range<UInt64> {
            var generator = SeededGenerator(seed: seed)
            var contents = sample.whole
            // Of all files the first two stripes.
            let stripe = Int.random(in: 0...1, using: &generator)
            let rows = sample.rows.indices.shuffled(using: &generator).prefix(parity + 1)
            for row in rows { #expect(sample.damage(row: row, stripe: stripe, &contents, &generator)) }
            for (name, bytes) in contents { try sample.storage.publish(bytes, as: name) }
            let protection = try #require(try Protection.find(in: sample.storage).first, "seed \(seed)")
            let error = refusal { try protection.repair(concurrency: 1) }
            #expect(error?.code == .incomplete, "seed \(seed)")
            for row in rows {
                #expect(error?.description.contains(sample.rows[row].name) == true, "seed \(seed): \(error as Any)")
            }
            #expect(try Samples.contents(of: sample.storage) == contents, "seed \(seed)")
        }
    }

    @Test func readingRepairsAsTheRepairDoes() throws {
        let sample = try Sample(parity: 2)
        for seed in 0..<200 as Range<UInt64> {
            var generator = SeededGenerator(seed: seed)
            var contents = sample.whole
            for stripe in 0..<12 {
                for row in sample.rows.indices.shuffled(using: &generator).prefix(2) {
                    _ = sample.damage(row: row, stripe: stripe, &contents, &generator)
                }
            }
            let lost = "file-4"
            for (name, bytes) in contents { try sample.storage.publish(bytes, as: name) }
            if seed.isMultiple(of: 2) {
                for (name, bytes) in sample.whole where name != "file-2" { try sample.storage.publish(bytes, as: name) }
                try sample.storage.delete([lost])
            }
            let before = try Samples.contents(of: sample.storage)
            let repaired = RepairedStorage(sample.storage)
            #expect(try repaired.list("file-").map(\.key) == Sample.sizes.indices.map { "file-\($0)" }, "seed \(seed)")
            for (number, size) in Sample.sizes.enumerated() {
                let whole = try #require(sample.whole["file-\(number)"])
                #expect(try repaired.readAll("file-\(number)") == whole, "seed \(seed)")
                let file = try repaired.open("file-\(number)")
                for _ in 0..<8 {
                    let begin = Int.random(in: 0...size, using: &generator)
                    let end = Int.random(in: begin...size, using: &generator)
                    #expect(try file.bytes(in: begin..<end) == Array(whole[begin..<end]), "seed \(seed)")
                }
                #expect(refusal { _ = try file.bytes(in: 0..<size + 1) }?.code == .incomplete)
            }
            #expect(try Samples.contents(of: sample.storage) == before, "seed \(seed)")
        }
    }

    @Test func readingSaysWhichFilesItRepairsAndRefusesWhatIsBeyond() throws {
        let sample = try Sample(parity: 1)
        var contents = sample.whole
        contents["file-1"]?[600] ^= 1
        for (name, bytes) in contents { try sample.storage.publish(bytes, as: name) }
        let repaired = Recorder()
        let storage = RepairedStorage(sample.storage, onRepair: repaired.add)
        for number in Sample.sizes.indices { _ = try storage.readAll("file-\(number)") }
        #expect(repaired.all == ["file-1"])
        contents["file-2"]?[700] ^= 1
        for (name, bytes) in contents { try sample.storage.publish(bytes, as: name) }
        let again = RepairedStorage(sample.storage)
        #expect(try again.open("file-1").bytes(in: 0..<512) == Array(contents["file-1"]?[..<512] ?? []))
        let error = refusal { _ = try again.readAll("file-1") }
        #expect(error?.code == .incomplete && error?.context.file == "file-1" && error?.context.offset == 512)
        #expect(refusal { try again.publish([], as: "file-1") }?.code == .accessDenied)
        #expect(refusal { try again.delete(["file-1"]) }?.code == .accessDenied)
        #expect(refusal { _ = try again.create("new", byteCount: nil) }?.code == .accessDenied)
    }
}
