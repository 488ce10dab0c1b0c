import CairnBase
import CairnKeeper
import CairnKeeperGroup
import CairnStorage

/// What other members of a group say to one that holds a save: messages one after the other, each with who sends it and its
/// length in front. Answers are given the numbers of what was asked.
enum FuzzGroup {
    private static let job = KeeperTable.JobName(user: 1, name: "j")
    private static let millisecond: Int64 = 1_000_000

    private final class Table: KeeperTableAccess {
        private let table = Monitor(KeeperTable(limits: KeeperLimits(memory: 1 << 20, memoryPerUser: 1 << 20)))

        func change<Result, Failure: Error>(
            _ body: (inout KeeperTable) throws(Failure) -> Result
        ) throws(Failure) -> Result {
            try table.change { table throws(Failure) in try body(&table) }
        }
    }

    static func run(_ bytes: [UInt8]) throws {
        let table = Table()
        try save(in: table)
        var options = GroupMember.Options()
        options.timeout = 100 * millisecond
        options.heartbeat = 20 * millisecond
        options.manifest = manifest
        var member = try GroupMember(
            GroupLayout(memberCount: 3, parityCount: 1), own: 0, access: table, incarnation: 1, now: 0, options: options)
        var asked: [[UInt64]] = [[], [], []]
        var now: Int64 = 0
        var position = 0
        _ = member.beginList(job, prefix: "")
        while position + 3 <= bytes.count {
            let peer = 1 + Int(bytes[position] & 1)
            let length = Int(bytes.littleEndian(UInt16.self, at: position + 1))
            let end = min(bytes.count, position + 3 + length)
            if let message = try? GroupMessage(parsing: bytes[position + 3..<end]) {
                let number = message.isAnswer ? asked[peer].popLast() ?? 0 : UInt64(position)
                member.receive(message, number: number, from: peer, now: now)
            }
            now += 10 * millisecond
            member.tick(now)
            while member.work() {}
            for outgoing in member.takeOutgoing() where !outgoing.message.isAnswer {
                _ = outgoing.message.encoded
                if case .state = outgoing.message { continue }
                asked[outgoing.peer].append(outgoing.number)
            }
            _ = member.takeResults()
            position = end
        }
        _ = try? GroupFrame(parsing: bytes, of: 5)
        _ = "\(member.saves(of: nil))"
    }

    /// A save of one file, of which the other members know nothing.
    private static func save(in table: Table) throws {
        let prefix = "step-00000001/"
        let files: [(String, [UInt8])] = [
            (prefix + "rank-0.safetensors", (0..<300).map { UInt8(truncatingIfNeeded: $0) }),
            (prefix + "manifest.json", Array("aa\nrank-0.safetensors 300".utf8)),
        ]
        for (key, bytes) in files {
            let memory = try KeptMemory(capacity: bytes.count, name: "fuzz")
            try memory.write(bytes, at: 0)
            table.change { $0.insert(.init(memory: memory, byteCount: bytes.count, modified: 5, creator: 0), as: key, of: job) }
        }
    }

    /// The save, then a line a file.
    private static func manifest(_ bytes: [UInt8], _ file: String) throws(CairnError) -> SavedFiles {
        let lines = String(decoding: bytes, as: UTF8.self).split(separator: "\n")
        guard let first = lines.first else { throw CairnError(.malformed, "no manifest", .init(file: file)) }
        var files: [String: Int] = [:]
        for line in lines.dropFirst() {
            let parts = line.split(separator: " ")
            guard parts.count == 2, let count = Int(parts[1]), count >= 0 else {
                throw CairnError(.malformed, "no manifest", .init(file: file))
            }
            files[String(parts[0])] = count
        }
        return SavedFiles(saveID: String(first), files: files)
    }
}
