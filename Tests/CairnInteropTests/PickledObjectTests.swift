import CairnBase
import CairnCheckpoint
import CairnInterop
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

/// Objects, modules and names of attributes in pickles: read as data where tensors are in them, never called.
@Suite struct PickledObjectTests {
    private static let tensor = """
        ctorch._utils
        _rebuild_tensor_v2
        ((Vstorage
        ctorch
        FloatStorage
        V0
        Vcpu
        I2
        tQI0
        (I2
        t(I1
        tI00
        ccollections
        OrderedDict
        (tRtR
        """

    private func reader(_ pickle: String) throws -> TorchReader {
        let storage = MemoryStorage()
        let elements: [UInt8] = [0, 0, 128, 63, 0, 0, 0, 64]
        try storage.publish(
            TestArchive([("a/data.pkl", Array(pickle.utf8)), ("a/data/0", elements)]).bytes, as: "f")
        return try TorchReader(storage: storage, file: "f")
    }

    private func names(_ pickle: String) throws -> [String] { try reader(pickle).tensors.map(\.name) }

    @Test(arguments: [
        // Subclasses of dict and list, a named tuple, a data class, one with slots, one made of a dictionary, and an object
        // as old protocols spell it.
        ("cmy\nDict\n)RVw\nTENSORs", "x.w"), ("cmy\nList\n)RTENSORa", "x.0"), ("cmy\nPair\n(I1\nTENSORtR", "x.1"),
        ("cmy\nData\n)R(dVw\nTENSORsb", "x.w"), ("cmy\nSlots\n)R(N(dVw\nTENSORstb", "x.w"),
        ("cmy\nFrozen\n((dVw\nTENSORstR", "x.w"),
        ("ccopy_reg\n_reconstructor\n(cmy\nOld\nc__builtin__\nobject\nNtR(dVw\nTENSORsb", "x.w"),
    ])
    func objectsWithTensorsAreOpened(pickle: String, name: String) throws {
        let reader = try reader("(dVx\n" + pickle.replacing("TENSOR", with: Self.tensor) + "s.")
        #expect(reader.tensors.map(\.name) == [name])
        #expect(reader.skippedEntries.count == 1)
        #expect(reader.skippedEntries.first?.contains("\"x\" is an object of the class my.") == true)
        #expect(reader.skippedTensorCount == 0)
    }

    @Test func emptyDictionariesAndListsStayWhatTheyAre() throws {
        // {"e": {}, "l": [], "n": {"x": {}, "y": [{}]}, "t": tensor}
        let reader = try reader("(dVe\n(dsVl\n(lsVn\n(dVx\n(dsVy\n((dlssVt\n" + Self.tensor + "s.")
        let expected: [NamedValue] = [
            NamedValue(name: "e", value: .dictionary([:])), NamedValue(name: "l", value: .list([])),
            NamedValue(name: "n", value: .dictionary(["x": .dictionary([:]), "y": .list([.dictionary([:])])])),
        ]
        #expect(reader.values == expected)
    }

    @Test func aModuleIsReadAsItsState() throws {
        func module(_ parameters: String, _ buffers: String, _ modules: String, _ other: String = "") -> String {
            "cmy\nNet\n)R(dV_parameters\n(d\(parameters)sV_buffers\n(d\(buffers)s"
                + "V_non_persistent_buffers_set\nc__builtin__\nset\n((lVpassing\natRsV_modules\n(d\(modules)s\(other)b"
        }
        let inner = module("Vweight\n\(Self.tensor)sVbias\nNs", "", "")
        let outer = module(
            "Vscale\n\(Self.tensor)s", "Vkept\n\(Self.tensor)sVpassing\n\(Self.tensor)s", "Vlayer\n\(inner)sVnone\nNs",
            "Vfree\n\(Self.tensor)s")
        let root = try reader(outer + ".")
        #expect(root.tensors.map(\.name) == ["kept", "layer.weight", "scale"])
        #expect(root.skippedEntries.count == 1)
        #expect(root.skippedEntries.first?.contains("2 tensors elsewhere in it are left out") == true)
        #expect(root.skippedTensorCount == 2)
        #expect(try names("(dVmodel\n\(outer)s.") == ["model.kept", "model.layer.weight", "model.scale"])
    }

    @Test(arguments: [
        ("c__builtin__\ngetattr\n(cmy\nColour\nVRED\ntR", "<my.Colour.RED>"),
        ("c__builtin__\ngetattr\n(cmy\nOuter\nVInner\ntR)R", "Inner()"),
        ("coperator\nitemgetter\n(I1\ntR", "itemgetter(1)"), ("csignal\nSignals\n(I15\ntR", "Signals(15)"),
        ("cbuiltins\nValueError\n(Vx\ntR", "ValueError('x')"),
    ])
    func namesOfAttributesAndHarmlessCallsAreShown(pickle: String, text: String) throws {
        let reader = try reader("(dVx\n\(pickle)sVw\n\(Self.tensor)s.")
        #expect(reader.tensors.map(\.name) == ["w"])
        #expect(reader.values == [NamedValue(name: "x", value: .string(text))])
    }

    @Test func aMethodOfAnObjectStaysClosed() throws {
        let object = "cmy\nSchedule\n)R(dVw\n\(Self.tensor)sb"
        let reader = try reader("(dVx\nc__builtin__\ngetattr\n(\(object)Vanneal\ntRs.")
        #expect(reader.tensors.isEmpty)
        #expect(reader.skippedTensorCount == 1)
        #expect(reader.skippedEntries.first?.contains("my.Schedule.anneal") == true)
    }

    @Test(arguments: [
        "c__builtin__\ngetattr\n(cos\nsys\nVsystem\ntR.", "c__builtin__\ngetattr\n(ctorch\nnn\nV__globals__\ntR.",
        "c__builtin__\ngetattr\n(c__builtin__\ngetattr\n(ctorch\nserialization\nVos\ntRVsystem\ntR(Vx\ntR.",
        "c__builtin__\neval\n(Vdata()\n(dVdata\nI1\nstR.", "cbuiltins\ntype\n(VX\n(t(dtR.", "cbuiltins\nmap\n(NNtR.",
        "cfunctools\nreduce\n(NNtR.", "ctorch\nos.system\n(Vx\ntR.", "cbuiltins\nsetattr\n(NNNtR.",
    ])
    func whatNoCheckpointCallsStaysRefused(pickle: String) throws {
        let error = try #require(refusal { _ = try reader(pickle) })
        #expect(error.code == .unsupported)
        #expect(error.description.contains("would run code"), "\(error)")
    }

    @Test func keysThatAreSpeltAlikeLoseNothing() throws {
        // Two keys of three bytes, the value None and its name, and two tensors as keys.
        let bytes = { (text: String) in "c_codecs\nencode\n(V\(text)\nVlatin1\ntR" }
        let all =
            "(d\(bytes("abc"))\(Self.tensor)s\(bytes("xyz"))\(Self.tensor)sN\(Self.tensor)sVNone\n\(Self.tensor)s"
            + "\(Self.tensor)\(Self.tensor)s\(Self.tensor)\(Self.tensor)s."
        #expect(try names(all) == ["None", "None#2", "b'abc'", "b'xyz'", "tensor", "tensor#2"])
    }

    @Test func aTensorOfPaddleIsReadUnderItsName() throws {
        let array =
            "cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntVb\ntR(I1\n(I2\ntcnumpy\ndtype\n(Vf4\nI0\nI1\ntR"
            + "(I3\nV<\nNNNI-1\nI-1\nI0\ntbI00\nc_codecs\nencode\n(Vabcdefgh\nVlatin1\ntRtb"
        let reader = try reader("(dVa\ncbuiltins\ntuple\n((Va_0\n\(array)ttRsVb\ncbuiltins\neval\n(Vdata\n(dVdata\n\(array)stRs.")
        #expect(reader.tensors.map(\.name) == ["a", "b"])
        #expect(reader.values.isEmpty)
    }

    @Test func sharedPartsAreReadOnceHoweverOftenTheyAreMet() async {
        await #expect(processExitsWith: .success) {
            // A list of a thousand numbers that a thousand lists have a thousand times between them.
            let numbers = "(l" + String(repeating: "I7\na", count: 1000) + "p1\n0"
            let pickle = "\(numbers)(l" + String(repeating: "g1\na", count: 1000) + "p2\n0(dVx\ng2\nsVy\ng2\ns."
            let storage = MemoryStorage()
            try storage.publish(TestArchive([("a/data.pkl", Array(pickle.utf8))]).bytes, as: "f")
            PeakMemory.requireGrowth(below: 32 << 20) {
                let reader = try? TorchReader(storage: storage, file: "f")
                precondition(reader?.values.count == 2)
                guard case .list(let rows)? = reader?.values.first?.value, case .list(let row)? = rows.last else {
                    preconditionFailure("no lists")
                }
                precondition(rows.count == 1000 && row.count == 1000 && row[999] == .integer(7))
            }
        }
    }

    @Test func storagesAreFoundInProtocolZero() throws {
        let pickle = Self.tensor.replacing(
            "(Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI2\ntQ",
            with: "P('storage', <class 'torch.FloatStorage'>, '0', 'cpu', 2)\n")
        let reader = try reader("(dVw\n\(pickle)s.")
        #expect(try reader.tensor("w").elements(as: Float.self) == [1, 2])
    }
}
