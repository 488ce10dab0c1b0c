import CairnBase
import CairnProtect
import CairnStorage
import CairnTesting
import Testing

/// What is lost of protected files comes back byte for byte, and what cannot is refused by name.
@Suite struct ProtectionTests {
    private static let sizes = [5_000, 1, 512, 3_000, 0, 4_096, 777]

    private func protected(
        _ sizes: [Int] = sizes, _ options: ProtectionOptions = Samples.options(2), seed: UInt64 = 1
    ) throws -> (storage: MemoryStorage, protection: Protection, whole: [String: [UInt8]]) {
        let (storage, files) = try Samples.storage(sizes, seed: seed)
        let protection = try Protection.protect(files.keys.sorted(), in: storage, as: "set", options: options)
        return (storage, protection, try Samples.contents(of: storage))
    }

    private func found(in storage: any Storage) throws -> Protection {
        try #require(try Protection.find(in: storage).first)
    }

    @Test func everyLossOfOneOrTwoFilesComesBack() throws {
        let (storage, protection, whole) = try protected()
        #expect(protection.columnCount == 6 && protection.parityCount == 2)
        #expect(whole.count == Self.sizes.count + 2)
        let names = whole.keys.sorted()
        for (position, first) in names.enumerated() {
            for second in names[position...] {
                try storage.delete([first, second])
                // Where both parity files are gone nothing tells of them.
                if Set([first, second]) == Set(protection.parityFileNames) {
                    #expect(try Protection.find(in: storage).isEmpty)
                } else {
                    let report = try found(in: storage).repair(concurrency: 1)
                    #expect(report.files.filter { $0.state == .lost }.map(\.location).sorted() == Set([first, second]).sorted())
                    #expect(try Samples.contents(of: storage) == whole, "\(first), \(second)")
                }
                for (name, bytes) in whole { try storage.publish(bytes, as: name) }
            }
        }
    }

    @Test func aThirdLossIsRefusedByNameAndNothingIsWritten() throws {
        let (storage, _, whole) = try protected()
        for third in ["file-3", "file-5", "set.cairn-parity-01"] {
            try storage.delete(["file-0", "file-2", third])
            let before = try Samples.contents(of: storage)
            let protection = try found(in: storage)
            let report = try protection.verify()
            #expect(report.remainingLosses == -1 && !report.isRepairable && report.isDeep)
            // What is beyond the files that are lost too is not: the longest file goes on.
            let error = refusal { try protection.repair(concurrency: 1) }
            #expect(error?.code == .incomplete)
            for name in ["file-0", "file-2"] { #expect(error?.description.contains(name) == true, "\(error as Any)") }
            #expect(try Samples.contents(of: storage) == before)
            for (name, bytes) in whole { try storage.publish(bytes, as: name) }
        }
    }

    @Test func shortAndLongFilesAreAsTheyWere() throws {
        let (storage, _, whole) = try protected()
        var states: Set<ProtectionReport.State> = []
        for (name, bytes) in whole {
            let variants = [Array(bytes.dropLast(1)), Array(bytes.prefix(600)), bytes + [0], bytes + bytes, []]
            for variant in variants where variant != bytes {
                try storage.publish(variant, as: name)
                let report = try found(in: storage).repair(concurrency: 1)
                let file = try #require(report.files.first { $0.location == name })
                #expect(file.state == (variant.count < bytes.count ? .short : .long), "\(name)")
                #expect(file.byteCount == bytes.count && file.foundByteCount == variant.count)
                #expect(report.files.filter { $0.state != .intact }.count == 1)
                states.insert(file.state)
                #expect(try Samples.contents(of: storage) == whole, "\(name), \(variant.count) bytes")
            }
        }
        #expect(states == [.short, .long])
    }

    @Test func anIntactSetIsLeftAsItIs() throws {
        let (storage, protection, _) = try protected()
        let before = try storage.list("")
        let report = try protection.repair(concurrency: 1)
        #expect(report.isIntact && report.isRepairable && report.remainingLosses == 2)
        #expect(try storage.list("") == before)
    }

    @Test func oneFileIsCutInRangesOfWhichAnyTwoMayRot() throws {
        let (storage, protection, whole) = try protected([100_000], Samples.options(2))
        #expect(protection.columnCount == 8 && protection.columnCount(ofFile: "file-0") == 8)
        let length = 12_500
        for first in 0..<8 {
            for second in first..<8 {
                var bytes = try #require(whole["file-0"])
                for range in Set([first, second]) {
                    for place in range * length..<(range + 1) * length { bytes[place] ^= 0x5A }
                }
                try storage.publish(bytes, as: "file-0")
                let report = try found(in: storage).repair(concurrency: 1)
                #expect(report.files[0].state == .damaged)
                #expect(report.remainingLosses == (first == second ? 1 : 0))
                #expect(report.files[0].damagedRanges.reduce(0) { $0 + $1.count } == Set([first, second]).count * length)
                #expect(try Samples.contents(of: storage) == whole)
            }
        }
        try storage.delete(["file-0"])
        #expect(refusal { try found(in: storage).repair() }?.code == .incomplete)
        // Cut to a range less than it had.
        try storage.publish(Array(try #require(whole["file-0"])[..<(6 * length)]), as: "file-0")
        try found(in: storage).repair(concurrency: 1)
        #expect(try Samples.contents(of: storage) == whole)
    }

    @Test func randomSetsComeBackWhateverTheirSizesAndLayout() throws {
        var repaired = 0
        for seed in 1...300 as ClosedRange<UInt64> {
            var generator = SeededGenerator(seed: seed)
            let sizes = (0..<Int.random(in: 1...9, using: &generator)).map { _ in
                [0, 1, 511, 512, 513, Int.random(in: 0...20_000, using: &generator)].randomElement(using: &generator) ?? 0
            }
            let layout: ProtectionLayout = [.automatic, .files, .ranges].randomElement(using: &generator) ?? .automatic
            let parity = Int.random(in: 1...4, using: &generator)
            let columns = Bool.random(using: &generator) ? Int.random(in: 1...12, using: &generator) : nil
            let block = [512, 1_024, 4_096].randomElement(using: &generator) ?? 512
            let place = "seed \(seed), sizes \(sizes), \(layout), parity \(parity), columns \(String(describing: columns))"
            let (storage, protection, whole) = try protected(
                sizes, Samples.options(parity, columns: columns, layout: layout, block: block), seed: seed)
            #expect(protection.byteCount == sizes.reduce(0, +), "\(place)")
            // As many files as there is parity, each in one column.
            let names = whole.keys.filter { (protection.columnCount(ofFile: $0) ?? 1) <= 1 }.sorted()
            let lost = Set(names.shuffled(using: &generator).prefix(parity))
            if lost.isSuperset(of: protection.parityFileNames) { continue }
            try storage.delete(Array(lost))
            try found(in: storage).repair(concurrency: 1)
            #expect(try Samples.contents(of: storage) == whole, "\(place)")
            repaired += 1
        }
        #expect(repaired > 150, "\(repaired)")
    }

    @Test func parityThatIsThereIsReplacedOnlyOnRequest() throws {
        let (storage, _, whole) = try protected()
        let names = (0..<Self.sizes.count).map { "file-\($0)" }
        let error = refusal { try Protection.protect(names, in: storage, as: "set", options: Samples.options(3)) }
        #expect(error?.code == .alreadyExists)
        #expect(try Samples.contents(of: storage) == whole)
        var options = Samples.options(1)
        options.replacing = true
        try Protection.protect(names, in: storage, as: "set", options: options)
        #expect(try storage.list("set").map(\.key) == ["set.cairn-parity-00"])
        #expect(try found(in: storage).verify().remainingLosses == 1)
    }

    @Test func whatCannotBeProtectedIsRefusedAndNothingIsLeft() throws {
        let (storage, files) = try Samples.storage([1_000, 1_000], seed: 3)
        let names = files.keys.sorted()
        let refused: [(names: [String], name: String, options: ProtectionOptions, code: CairnError.Code)] = [
            ([], "set", Samples.options(1), .invalidArgument),
            (names, "", Samples.options(1), .invalidArgument),
            (names, "a/b", Samples.options(1), .invalidArgument),
            (names, "set", Samples.options(0), .invalidArgument),
            (names, "set", Samples.options(254), .invalidArgument),
            (names, "set", Samples.options(-1), .invalidArgument),
            (names, "set", Samples.options(1, columns: 256), .invalidArgument),
            (names, "set", Samples.options(1, columns: 0), .invalidArgument),
            (names, "set", Samples.options(200, columns: 100, layout: .ranges), .invalidArgument),
            (names, "set", Samples.options(1, block: 1_000), .invalidArgument),
            (names, "set", Samples.options(1, block: 256), .invalidArgument),
            (names + names, "set", Samples.options(1), .invalidArgument),
            (names + ["missing"], "set", Samples.options(1), .notFound),
            (["../file-0"], "set", Samples.options(1), .invalidArgument),
        ]
        for (names, name, options, code) in refused {
            let error = refusal { try Protection.protect(names, in: storage, as: name, options: options) }
            #expect(error?.code == code, "\(names) \(name) \(options.parityCount)")
        }
        #expect(try Samples.contents(of: storage) == files)
        // The most that there can be.
        let most = try Protection.protect(names, in: storage, as: "set", options: Samples.options(253))
        #expect(most.columnCount == 2 && most.parityCount == 253)
        try storage.delete(names + most.parityFileNames.dropLast(2))
        try found(in: storage).repair(concurrency: 1)
        #expect(try most.verify().isIntact)
    }
}
