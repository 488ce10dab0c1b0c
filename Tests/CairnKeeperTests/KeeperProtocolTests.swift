import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTesting
import Testing

import CairnKeeper

@Suite struct KeeperProtocolTests {
    private static let requests: [KeeperRequest] = [
        .hello(version: 1, job: "kjv", isObserver: false, user: nil),
        .hello(version: 1, job: "\u{1F600}\"\\", isObserver: true, user: .max),
        .create(key: "step-00000400/rank-00000.safetensors", byteCount: 1 << 40), .finish(writer: 3, byteCount: 0),
        .discard(writer: .max), .open(key: "a"), .release(reader: 0), .list(prefix: "", after: nil),
        .list(prefix: "step-", after: "step-1"), .delete(keys: ["a", "b/c"]), .delete(keys: []), .forget(job: "kjv"),
        .status,
    ]
    private static let replies: [KeeperReply] = [
        .done, .created(writer: 1, capacity: 4096, isRecycled: true), .opened(reader: 2, byteCount: 5),
        .listed([StorageEntry(key: "k", byteCount: 1, modified: 2)], isComplete: false),
        .status(["jobs": .array([])]),
        .failed(CairnError(.noSpace, "full", .init(file: "f", expected: "1", found: "2", advice: "delete"))),
    ]

    @Test func requestsAndAnswersComeBackAsTheyWere() throws {
        for request in Self.requests { #expect(try KeeperRequest(request.message) == request) }
        for reply in Self.replies { #expect(try KeeperReply(reply.message) == reply) }
    }

    @Test func whatIsNoMessageIsRefused() {
        let seed = UInt64.random(in: 0...UInt64.max)
        var generator = SeededGenerator(seed: seed)
        let messages = Self.requests.map(\.message) + Self.replies.map(\.message)
        var refused = 0
        for _ in 0..<40_000 {
            guard var message = messages.randomElement(using: &generator) else { continue }
            for _ in 0..<Int.random(in: 1...4, using: &generator) where !message.isEmpty {
                let index = Int.random(in: 0..<message.count, using: &generator)
                switch Int.random(in: 0..<4, using: &generator) {
                case 0: message[index] = UInt8.random(in: 0...255, using: &generator)
                case 1: message.remove(at: index)
                case 2: message.insert(contentsOf: Array("9999999999999999999".utf8), at: index)
                default: message.removeSubrange(index...)
                }
            }
            // Either is one of all messages or an error: nothing else, and never the end of the process.
            let request = refusal { _ = try KeeperRequest(message) }
            let reply = refusal { _ = try KeeperReply(message) }
            if let request { #expect(request.code == .malformed, "seed \(seed)") }
            if let reply { #expect(reply.code == .malformed, "seed \(seed)") }
            if request != nil, reply != nil { refused += 1 }
        }
        #expect(refused > 10_000, "seed \(seed)")
    }

    @Test func aPeerThatSendsNonsenseHarmsNobody() throws {
        let keeper = try TestKeeper()
        let storage = try keeper.storage()
        try storage.publish([1, 2, 3], as: "key")
        let seed = UInt64.random(in: 0...UInt64.max)
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<40 {
            let socket = try KeeperSocket(connectingTo: keeper.keeper.path, timeout: .seconds(10))
            let hello = KeeperRequest.hello(version: 1, job: "other", isObserver: false, user: nil)
            if Bool.random(using: &generator) {
                try socket.send(hello.message)
                _ = try socket.receive()
            }
            for _ in 0..<50 {
                guard var message = Self.requests.randomElement(using: &generator)?.message else { continue }
                if Bool.random(using: &generator) {
                    message[Int.random(in: 0..<message.count, using: &generator)] = .random(in: 0...255, using: &generator)
                }
                try socket.send(message)
                #expect(try socket.receive() != nil, "seed \(seed)")
            }
            socket.shutDown()
        }
        #expect(try storage.readAll("key") == [1, 2, 3])
        try waitUntil("they are gone") { keeper.job("other")?.connections ?? 0 == 0 }
        #expect(keeper.keeper.status.jobs.reduce(0) { $0 + $1.writers } == 0)
    }

    @Test func aWriterThatChangesTheSizeOfItsMemoryGetsNoObject() throws {
        let keeper = try TestKeeper()
        let socket = try KeeperSocket(connectingTo: keeper.keeper.path, timeout: .seconds(10))
        func ask(_ request: KeeperRequest) throws -> (KeeperReply, FileDescriptor?) {
            try socket.send(request.message)
            let received = try #require(try socket.receive())
            return (try KeeperReply(received.message), received.file)
        }
        _ = try ask(.hello(version: 1, job: "job", isObserver: false, user: nil))
        for change in [0, 1 << 20] {
            let (reply, file) = try ask(.create(key: "key", byteCount: 8192))
            guard case .created(let writer, _, _) = reply, let file else {
                Issue.record("there is no memory: \(reply)")
                return
            }
            try file.truncate(to: change)
            let (finished, _) = try ask(.finish(writer: writer, byteCount: 100))
            guard case .failed(let error) = finished else {
                Issue.record("the object was taken")
                return
            }
            #expect(error.code == .mismatch)
        }
        #expect(keeper.job().map(\.byteCount) == 0)
        #expect(keeper.keeper.status.usedMemory == 0)
    }

    @Test func anotherVersionIsRefused() throws {
        let keeper = try TestKeeper()
        let socket = try KeeperSocket(connectingTo: keeper.keeper.path, timeout: .seconds(10))
        try socket.send(KeeperRequest.hello(version: 2, job: "job", isObserver: false, user: nil).message)
        let reply = try KeeperReply(try #require(try socket.receive()).message)
        guard case .failed(let error) = reply else {
            Issue.record("it is welcome")
            return
        }
        #expect(error.code == .unsupported)
    }

    @Test func theStatusIsTheSameFromOutside() throws {
        let keeper = try TestKeeper()
        let store = try keeper.store("kjv")
        try store.save(try sampleState(2), step: 2)
        let status = try KeeperStatus(ofKeeperAt: keeper.keeper.path)
        #expect(status.jobs.map(\.name) == ["kjv"] && status.jobs.map(\.steps) == [[2]])
        #expect(status.usedMemory == keeper.keeper.status.usedMemory && status.committed == 1)
        #expect(status.metrics.contains("cairn_keeper_job_newest_step{user=\"\(status.jobs[0].user)\",job=\"kjv\"} 2\n"))
        #expect(refusal { try KeeperStatus.forget("kjv", ofKeeperAt: keeper.keeper.path) }?.code == .invalidArgument)
        (store.storage as? KeeperStorage)?.abandon()
        try waitUntil("it is gone") { keeper.job("kjv")?.connections == 0 }
        try KeeperStatus.forget("kjv", ofKeeperAt: keeper.keeper.path)
        #expect(keeper.keeper.status.jobs.isEmpty && keeper.keeper.status.usedMemory == 0)
    }
}
