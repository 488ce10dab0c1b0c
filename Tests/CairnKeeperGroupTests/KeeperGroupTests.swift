import CZMQ
import CairnBase
import CairnCheckpoint
import CairnKeeper
import CairnKeeperGroup
import CairnStorage
import CairnTensor
import CairnTesting
import Testing

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

extension TemporaryDirectory {
    /// Lets everybody read a file.
    func expose(_ name: String) throws { #expect(chmod(path(name), 0o644) == 0) }
}

/// Keepers of a group on addresses of this machine, over the network library.
final class TestGroup {
    let directory: TemporaryDirectory
    let file: GroupFile
    let keys: [CurveKey]
    private var keepers: [Int: (keeper: Keeper, group: Box)] = [:]

    final class Box: Sendable {
        let group = Monitor<KeeperGroup?>(nil)
    }

    init(_ count: Int, parity: Int) throws {
        directory = try TemporaryDirectory()
        keys = try (0..<count).map { _ in try CurveKey() }
        let port = Int.random(in: 20_000..<60_000)
        let members = zip(keys.indices, keys).map { index, key -> JSONValue in
            .object([
                "name": .string("m\(index)"), "address": .string("tcp://127.0.0.\(index + 1):\(port)"),
                "key": .string(key.publicText),
            ])
        }
        var writer = JSONWriter()
        try writer.write(
            .object(["group": .string("test"), "parity": .integer(Int64(parity)), "members": .array(members)]))
        file = try GroupFile(parsing: writer.finish(), file: "group.json")
    }

    deinit { for index in keepers.keys { stop(index) } }

    func start(_ index: Int) throws {
        let box = Box()
        let (file, key) = (file, keys[index])
        let keeper = try Keeper(
            at: directory.path("keeper\(index)"), options: KeeperOptions(memory: 64 << 20)
        ) { table throws(CairnError) in
            let group = try KeeperGroup(file, member: "m\(index)", key: key, timeout: .milliseconds(500), table: table)
            box.group.change { $0 = group }
            return group
        }
        keepers[index] = (keeper, box)
    }

    /// The keeper is gone, with all that it has.
    func stop(_ index: Int) {
        guard let (keeper, box) = keepers.removeValue(forKey: index) else { return }
        keeper.stop()
        box.group.read { $0 }?.stop()
    }

    func store(_ index: Int) throws -> CheckpointStore {
        CheckpointStore(storage: try KeeperStorage(job: "job", at: directory.path("keeper\(index)")), name: "keeper")
    }

    func status(_ index: Int) -> KeeperStatus.Group? { keepers[index]?.keeper.status.group }

    func awaitProtection(of step: Int) throws {
        for index in keepers.keys {
            try waitUntil("step \(step) is protected at \(index)") {
                status(index)?.saves.contains { $0.step == step && $0.isProtected(by: file.parity) } == true
            }
        }
    }

    /// A client of the network library that speaks to a member.
    func client(of index: Int, key: CurveKey?) throws -> ZeroMQ.Socket {
        let socket = try ZeroMQ.Socket(ZeroMQ.Context(), ZMQ_DEALER)
        if let key {
            try socket.set(ZMQ_CURVE_SERVERKEY, key: file.members[index].key)
            try socket.set(ZMQ_CURVE_PUBLICKEY, key: key.publicText)
            try socket.set(ZMQ_CURVE_SECRETKEY, key: key.secretText)
        }
        try socket.connect(file.members[index].address)
        return socket
    }
}

@Suite(.serialized) struct KeeperGroupTests {
    private static func state(_ step: Int) -> TrainingState {
        var state = TrainingState()
        state.set(Tensor((0..<50_000).map { Float($0 * 7 % 1001) + Float(step) }), for: "model.weight")
        state.set(.integer(Int64(step)), for: "step")
        return state
    }

    @Test func everyHostSeesOneStoreWhichOutlivesAsManyHostsAsThereIsParity() throws {
        let group = try TestGroup(3, parity: 1)
        for index in 0..<3 { try group.start(index) }
        try group.store(0).save(Self.state(1), step: 1)
        for index in 0..<3 {
            let loaded = try group.store(index).load(step: 1)
            #expect(try loaded.tensor("model.weight").elements(as: Float.self)[5] == 36)
        }
        try group.awaitProtection(of: 1)
        group.stop(0)
        #expect(try group.store(1).resume().loaded()?.step == 1)
        // Back with nothing, it rebuilds what it had, and another one may go.
        try group.start(0)
        try group.awaitProtection(of: 1)
        #expect(group.status(0)?.saves.first?.rebuiltByteCount ?? 0 > 200_000)
        group.stop(2)
        #expect(try group.store(0).load(step: 1).tensor("model.weight").elements(as: Float.self)[5] == 36)
        // One more is too many: it is said, and the checkpoint is not called damaged.
        group.stop(0)
        let recovery = RecoveryOrder([CheckpointTier("keeper", store: try group.store(1))])
        let error = refusal { _ = try recovery.load() }
        #expect(error?.code == .inputOutput)
        #expect(error.map { "\($0)" }?.contains("keepers of the group do not answer") == true)
    }

    @Test func retentionLeavesTheNewestProtectedStepUntilANewerOneIs() throws {
        let group = try TestGroup(2, parity: 1)
        for index in 0..<2 { try group.start(index) }
        let store = try group.store(0)
        try store.save(Self.state(1), step: 1)
        try group.awaitProtection(of: 1)
        group.stop(1)
        try store.save(Self.state(2), step: 2)
        try store.delete(step: 1)
        #expect(try store.steps() == [1, 2])
        try group.start(1)
        try group.awaitProtection(of: 2)
        try waitUntil("step 1 to go") { try store.steps() == [2] }
    }

    @Test func whoHasNoKeyOfTheGroupIsRefusedAndCounted() throws {
        let group = try TestGroup(2, parity: 1)
        for index in 0..<2 { try group.start(index) }
        let stranger = try group.client(of: 0, key: try CurveKey())
        _ = stranger.send([[1, 2, 3]])
        try waitUntil("the refusal") { group.status(0)?.refused ?? 0 > 0 }
        // Without encryption there is no connection at all.
        let plain = try group.client(of: 0, key: nil)
        _ = plain.send([[1, 2, 3]])
        // A member's key speaks for that member, whatever it calls itself; what is no frame is counted and named.
        let member = try group.client(of: 0, key: group.keys[1])
        try waitUntil("the malformed frame") {
            _ = member.send([Array("m0".utf8)])
            return group.status(0)?.malformed ?? 0 > 0
        }
        #expect(group.status(0)?.lastRefusal.hasPrefix("m1: ") == true)
        let request = GroupFrame(
            group: group.file.number, number: 5, message: .list(.init(user: 1, name: "job"), prefix: "", after: nil))
        _ = stranger.send([try request.encoded])
        _ = plain.send([try request.encoded])
        try group.store(0).save(Self.state(1), step: 1)
        try group.awaitProtection(of: 1)
        #expect(stranger.receive() == nil && plain.receive() == nil)
    }

    @Test func aMemberNeedsItsOwnKeyAndItsName() throws {
        let group = try TestGroup(2, parity: 1)
        let table = GroupSimulation.Table(memory: 1 << 20)
        for (name, key) in [("m0", group.keys[1]), ("other", group.keys[0])] {
            let error = refusal {
                _ = try KeeperGroup(group.file, member: name, key: key, timeout: .seconds(1), table: table)
            }
            #expect(error?.code == .invalidArgument)
        }
    }
}
