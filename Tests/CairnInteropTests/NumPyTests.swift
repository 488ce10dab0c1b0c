import CZlib
import CairnBase
import CairnCheckpoint
import CairnDigest
import CairnInterop
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

@Suite struct NumPyTests {
    private func reader(_ name: String) throws -> NumPyReader { try NumPyReader(path: Fixture.path("numpy/" + name)) }

    private func reader(_ bytes: [UInt8], _ key: String = "f.npy") throws -> NumPyReader {
        let storage = MemoryStorage()
        try storage.publish(bytes, as: key)
        return try NumPyReader(storage: storage, file: key)
    }

    /// A file of version 1.0.
    private func array(_ header: String, _ data: [UInt8] = []) -> [UInt8] {
        let text = Array(header.utf8)
        return [0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(text.count & 255), UInt8(text.count >> 8)] + text + data
    }

    @Test(arguments: ["a.npz", "compressed.npz"])
    func archivesHoldWhatNumPySays(file: String) throws {
        try Fixture.check(
            CheckpointDigest(of: reader(file), bufferByteCount: 64), against: Fixture.truth("numpy"), file)
    }

    @Test(arguments: [("one.npy", "w"), ("v2header.npy", "w"), ("fortran.npy", "fortran")])
    func everyVersionAndOrderIsRead(file: String, name: String) throws {
        let tensors = try Fixture.truth("numpy").array("tensors").map { try $0.asObject() }
        let truth = try #require(try tensors.first { try $0.string("fqn") == name })
        let digest = try #require(try CheckpointDigest(of: reader(file), bufferByteCount: 16).tensors.first)
        #expect(digest.name == "tensor")
        #expect(try digest.sha256 == truth.string("sha256"))
    }

    @Test func whatIsNoTensorIsSaidOrBecomesAValue() throws {
        let records = try reader("v3header.npy")
        #expect(records.tensors.isEmpty)
        #expect(records.skippedEntries == ["tensor is left out: it holds records of ünï, y"])
        let objects = try reader("object_pickle.npz")
        #expect(objects.tensors.map(\.name) == ["w"])
        #expect(objects.values == [NamedValue(name: "o", value: [["a": 1]])])
        let halves = try reader("bf16_void.npy")
        #expect(halves.tensors.map(\.scalarType) == [.bf16])
        #expect(halves.skippedEntries.count == 1)
    }

    @Test func aHostilePickleIsNotRunAndHarmsNothingBeside() throws {
        let pickle = Array("cposix\nsystem\n(Vtrue\ntR.".utf8)
        let reader = try reader(array("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", pickle))
        #expect(reader.tensors.isEmpty)
        #expect(reader.skippedEntries.first?.contains("posix.system") == true)
    }

    @Test(arguments: [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3,)} ",
        "{\"shape\":(3L,),'fortran_order':False,'descr':\"<f4\",}\n",
    ])
    func headersMayBeSpeltDifferently(header: String) throws {
        #expect(try reader(array(header, [UInt8](repeating: 0, count: 12))).tensors.map(\.shape) == [[3]])
    }

    @Test(arguments: [
        "{'descr': '<f4', 'fortran_order': False}", "{'descr': '<f4', 'fortran_order': 0, 'shape': (1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'x': 1}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} + 1",
        "{'descr': '<f4', 'fortran_order': False, 'shape': [1]}",
        "{'descr': __import__('os').system('true'), 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4611686018427387904)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,", "",
        String(repeating: "(", count: 50_000),
    ])
    func hostileHeadersAreRefused(header: String) throws {
        #expect(refusal { _ = try reader(array(header, [0, 0, 0, 0])) }?.code == .malformed)
    }

    @Test func filesThatAreTooShortAreRefused() throws {
        let header = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}"
        #expect(refusal { _ = try reader(array(header, [0])) }?.code == .incomplete)
        let whole = try Fixture.bytes("numpy/one.npy")
        for count in [0, 1, 6, 8, 9, 10, 60, whole.count - 1] {
            #expect(refusal { _ = try reader(Array(whole.prefix(count))) } != nil, "\(count)")
        }
        for file in ["a.npz", "compressed.npz"] {
            let archive = try Fixture.bytes("numpy/" + file)
            #expect(refusal { _ = try reader(Array(archive.dropLast()), "f.npz") } != nil)
        }
    }

    @Test func everyRegionIsThatOfTheWhole() throws {
        let seed = UInt64.random(in: .min ... .max)
        var generator = SeededGenerator(seed: seed)
        for file in ["a.npz", "compressed.npz", "fortran.npy", "bf16_void.npy"] {
            let reader = try reader(file)
            for description in reader.tensors where description.shape.elementCount > 0 {
                let whole = try reader.tensor(description.name)
                for _ in 0..<8 {
                    let offsets = description.shape.extents.map { Int.random(in: 0..<$0, using: &generator) }
                    let extents = zip(description.shape.extents, offsets).map { extent, offset in
                        Int.random(in: 1...(extent - offset), using: &generator)
                    }
                    let region = try Region(offsets: offsets, shape: Shape(extents))
                    let part = try Tensor(description.scalarType, region.shape) {
                        try reader.read(description.name, region: region, into: &$0)
                    }
                    #expect(try part == whole.copy(of: region), "\(file) \(description.name) \(region), seed \(seed)")
                }
            }
        }
    }

    @Test func changedBytesAreNoticed() throws {
        for file in ["a.npz", "compressed.npz"] {
            var bytes = try Fixture.bytes("numpy/" + file)
            #expect(try reader(file).verify(deep: true) { _ in }.isValid)
            // In the elements of the first array.
            bytes[180] ^= 4
            // What is small is read, and noticed, when the file is opened.
            var found: [CairnError.Code] = []
            do {
                found = try reader(bytes, "f.npz").verify(deep: true) { _ in }.damages.map(\.error.code)
            } catch let error as CairnError {
                found = [error.code]
            }
            // Compressed bytes may not even expand any more.
            #expect(found.count == 1 && [.corrupted, .malformed].contains(found.first), "\(file): \(found)")
        }
    }

    @Test func mutatedFilesNeverCrash() throws {
        let seed = UInt64.random(in: .min ... .max)
        var generator = SeededGenerator(seed: seed)
        for file in ["a.npz", "compressed.npz", "object_pickle.npz", "v3header.npy", "fortran.npy"] {
            let bytes = try Fixture.bytes("numpy/" + file)
            for _ in 0..<400 {
                var changed = bytes
                for _ in 0..<Int.random(in: 1...4, using: &generator) {
                    changed[Int.random(in: 0..<bytes.count, using: &generator)] = .random(
                        in: 0...255, using: &generator)
                }
                do {
                    let reader = try reader(changed)
                    _ = try CheckpointDigest(of: reader, bufferByteCount: 64)
                } catch {
                    #expect(error is CairnError, "\(file), seed \(seed): \(error)")
                }
            }
        }
    }

    /// Raw DEFLATE of bytes.
    private func deflated(_ bytes: [UInt8]) throws -> [UInt8] {
        var length = compressBound(uLong(bytes.count))
        var result = [UInt8](repeating: 0, count: Int(length))
        try #require(compress2(&result, &length, bytes, uLong(bytes.count), 1) == Z_OK)
        // Without zlib's header and checksum.
        return Array(result[2..<Int(length) - 4])
    }

    /// An archive of one deflated record.
    private func archive(_ name: String, _ bytes: [UInt8], checksum: UInt32? = nil) throws -> [UInt8] {
        func number(_ value: Int, _ count: Int) -> [UInt8] {
            (0..<count).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
        }
        let data = try deflated(bytes)
        let sum = checksum.map { Int($0) } ?? Int(crc32(0, bytes, UInt32(bytes.count)))
        let common =
            number(0, 2) + number(8, 2) + number(0, 4) + number(sum, 4) + number(data.count, 4)
            + number(bytes.count, 4) + number(name.utf8.count, 2) + number(0, 2)
        let local = number(0x0403_4B50, 4) + number(20, 2) + common + Array(name.utf8) + data
        let directory =
            number(0x0201_4B50, 4) + number(20, 2) + number(20, 2) + common + number(0, 2) + number(0, 2)
            + number(0, 2) + number(0, 4) + number(0, 4) + Array(name.utf8)
        return local + directory + number(0x0605_4B50, 4) + number(0, 4) + number(1, 2) + number(1, 2)
            + number(directory.count, 4) + number(local.count, 4) + number(0, 2)
    }

    @Test func largeCompressedArraysAreReadAnywhere() throws {
        let count = 10_000_000
        let header = "{'descr': '<u4', 'fortran_order': False, 'shape': (\(count / 1000), 1000), }"
        var data = [UInt8](repeating: 0, count: count * 4)
        for index in stride(from: 0, to: count, by: 7) { data[index * 4 + 1] = UInt8(truncatingIfNeeded: index) }
        let file = array(header, data)
        let archive = try archive("x.npy", file)
        let reader = try reader(archive, "f.npz")
        for row in [9_990, 3, 5_000, 9_999, 0] {
            let part = try Tensor(.u32, [1, 1000]) {
                try reader.read("x", region: Region(offsets: [row, 0], shape: [1, 1000]), into: &$0)
            }
            #expect(
                part.bytes.withUnsafeBytes { Array($0) } == Array(data[row * 4000..<row * 4000 + 4000]), "row \(row)")
        }
        _ = try CheckpointDigest(of: reader)
        let damaged = try self.reader(self.archive("x.npy", file, checksum: 5), "f.npz")
        #expect(refusal { _ = try CheckpointDigest(of: damaged) }?.code == .corrupted)
        #expect(try damaged.verify(deep: true) { _ in }.damages.map(\.error.code) == [.corrupted])
    }
}
