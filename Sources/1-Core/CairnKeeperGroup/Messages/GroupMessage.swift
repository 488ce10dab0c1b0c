package import CairnBase
package import CairnKeeper
package import CairnStorage

/// A save of a job. Another save of the same step is another one.
package struct GroupStep: Sendable, Hashable {
    package var job: KeeperTable.JobName
    package var step: Int
    package var saveID: String

    package init(job: KeeperTable.JobName, step: Int, saveID: String) {
        self.job = job
        self.step = step
        self.saveID = saveID
    }
}

/// What a member tells the others of itself, again and again. A later one replaces all that an earlier one said.
package struct GroupState: Sendable, Hashable {
    package enum Progress: UInt8, Sendable, Hashable {
        case working
        /// All of its own bundle and of its parity is there.
        case complete
        /// It will never be.
        case failed
    }

    package struct Entry: Sendable, Hashable {
        package var step: GroupStep
        /// Of the manifest.
        package var modified: Int64
        package var byteCount: Int
        package var progress: Progress

        package init(step: GroupStep, modified: Int64, byteCount: Int, progress: Progress) {
            self.step = step
            self.modified = modified
            self.byteCount = byteCount
            self.progress = progress
        }
    }

    /// Of which start of the member it is, and which it is of that.
    package var incarnation: Int
    package var number: Int
    /// Whether the other one is asked to say the same of itself.
    package var asks: Bool
    package var entries: [Entry]
    /// The jobs with processes on the member's host.
    package var running: [KeeperTable.JobName]

    package init(
        incarnation: Int, number: Int, asks: Bool, entries: [Entry], running: [KeeperTable.JobName]
    ) {
        self.incarnation = incarnation
        self.number = number
        self.asks = asks
        self.entries = entries
        self.running = running
    }
}

/// What members say to each other. All requests can be repeated, and all answers can come twice or never.
package enum GroupMessage: Sendable, Hashable {
    case state(GroupState)
    /// These saves were deleted.
    case drop([GroupStep])
    case list(KeeperTable.JobName, prefix: String, after: String?)
    case find(KeeperTable.JobName, key: String)
    case read(KeeperTable.JobName, key: String, modified: Int64, offset: Int, count: Int)
    case delete(KeeperTable.JobName, keys: [String])
    /// The bundle of any member, as far as known.
    case describe(GroupStep, member: Int)
    /// Bytes of the bundle of who is asked.
    case bundle(GroupStep, offset: Int, count: Int)
    /// Bytes of a parity of who is asked.
    case parity(GroupStep, stripe: Int, offset: Int, count: Int)

    case entries([StorageEntry], isComplete: Bool)
    case bytes([UInt8])
    case descriptor(BundleDescriptor)
    case done
    /// It does not have that.
    case none
    /// It may have that soon, and is to be asked again.
    case later

    /// Whether it answers a request.
    package var isAnswer: Bool {
        switch self {
        case .entries, .bytes, .descriptor, .done, .none, .later: true
        default: false
        }
    }
}

extension GroupMessage {
    /// As many bytes are asked for at most.
    static let greatestPortion = 4 << 20

    private var number: UInt8 {
        switch self {
        case .state: 1
        case .drop: 2
        case .list: 3
        case .find: 4
        case .read: 5
        case .delete: 6
        case .describe: 7
        case .bundle: 8
        case .parity: 9
        case .entries: 32
        case .bytes: 33
        case .descriptor: 34
        case .done: 35
        case .none: 36
        case .later: 37
        }
    }

    package var encoded: [UInt8] {
        var writer = GroupWriter()
        writer.bytes.append(number)
        switch self {
        case .state(let state): writer.write(state)
        case .drop(let steps):
            writer.write(steps.count)
            for step in steps { writer.write(step) }
        case .list(let job, let prefix, let after):
            writer.write(job)
            writer.write(prefix)
            writer.write(after != nil)
            writer.write(after ?? "")
        case .find(let job, let key):
            writer.write(job)
            writer.write(key)
        case .read(let job, let key, let modified, let offset, let count):
            writer.write(job)
            writer.write(key)
            writer.write(Int(modified))
            writer.write(offset)
            writer.write(count)
        case .delete(let job, let keys):
            writer.write(job)
            writer.write(keys.count)
            for key in keys { writer.write(key) }
        case .describe(let step, let member):
            writer.write(step)
            writer.write(member)
        case .bundle(let step, let offset, let count):
            writer.write(step)
            writer.write(offset)
            writer.write(count)
        case .parity(let step, let stripe, let offset, let count):
            writer.write(step)
            writer.write(stripe)
            writer.write(offset)
            writer.write(count)
        case .entries(let entries, let isComplete):
            writer.write(isComplete)
            writer.write(entries.count)
            for entry in entries {
                writer.write(entry.key)
                writer.write(entry.byteCount)
                writer.write(Int(entry.modified))
            }
        case .bytes(let bytes): writer.write(bytes)
        case .descriptor(let descriptor):
            writer.write(descriptor.items.count)
            for item in descriptor.items {
                writer.write(item.key)
                writer.write(item.byteCount)
            }
            writer.write(descriptor.checksums.count)
            for checksum in descriptor.checksums { writer.write(checksum) }
        case .done, .none, .later: break
        }
        return writer.bytes
    }

    /// Reads a message; throws `.malformed` for what is none.
    package init(parsing bytes: ArraySlice<UInt8>) throws(CairnError) {
        var reader = GroupReader(bytes)
        self = try Self.parse(&reader)
        try reader.end()
    }

    private static func parse(_ reader: inout GroupReader) throws(CairnError) -> GroupMessage {
        switch try reader.byte() {
        case 1: return .state(try reader.state())
        case 2:
            var steps: [GroupStep] = []
            for _ in 0..<(try reader.count(eachAtLeast: 36)) { steps.append(try reader.step()) }
            return .drop(steps)
        case 3:
            let (job, prefix) = (try reader.job(), try reader.text())
            do throws(CairnError) { try StorageKey.validate(prefix: prefix) } catch {
                throw GroupReader.malformed("has a bad prefix")
            }
            let hasAfter = try reader.bool()
            let after = try reader.text()
            return .list(job, prefix: prefix, after: hasAfter ? after : nil)
        case 4: return .find(try reader.job(), key: try reader.key())
        case 5:
            return .read(
                try reader.job(), key: try reader.key(), modified: Int64(try reader.integer()), offset: try reader.integer(),
                count: try reader.portion())
        case 6:
            let job = try reader.job()
            var keys: [String] = []
            for _ in 0..<(try reader.count(eachAtLeast: 8)) { keys.append(try reader.key()) }
            return .delete(job, keys: keys)
        case 7: return .describe(try reader.step(), member: try reader.integer())
        case 8: return .bundle(try reader.step(), offset: try reader.integer(), count: try reader.portion())
        case 9:
            return .parity(
                try reader.step(), stripe: try reader.integer(), offset: try reader.integer(), count: try reader.portion())
        case 32:
            let isComplete = try reader.bool()
            var entries: [StorageEntry] = []
            for _ in 0..<(try reader.count(eachAtLeast: 24)) {
                entries.append(
                    StorageEntry(
                        key: try reader.key(), byteCount: try reader.integer(), modified: Int64(try reader.integer())))
            }
            return .entries(entries, isComplete: isComplete)
        case 33: return .bytes(try reader.data())
        case 34:
            var items: [BundleDescriptor.Item] = []
            for _ in 0..<(try reader.count(eachAtLeast: 16)) {
                items.append(.init(key: try reader.key(), byteCount: try reader.integer()))
            }
            var checksums: [UInt32] = []
            for _ in 0..<(try reader.count(eachAtLeast: 4)) { checksums.append(try reader.checksum()) }
            return .descriptor(try BundleDescriptor(items: items, checksums: checksums))
        case 35: return .done
        case 36: return .none
        case 37: return .later
        case let other: throw GroupReader.malformed("is of an unknown kind, \(other)")
        }
    }
}

extension GroupWriter {
    fileprivate mutating func write(_ job: KeeperTable.JobName) {
        write(job.user)
        write(job.name)
    }

    fileprivate mutating func write(_ step: GroupStep) {
        write(step.job)
        write(step.step)
        write(step.saveID)
    }

    fileprivate mutating func write(_ state: GroupState) {
        write(state.incarnation)
        write(state.number)
        write(state.asks)
        write(state.entries.count)
        for entry in state.entries {
            write(entry.step)
            write(Int(entry.modified))
            write(entry.byteCount)
            bytes.append(entry.progress.rawValue)
        }
        write(state.running.count)
        for job in state.running { write(job) }
    }
}

extension GroupReader {
    fileprivate mutating func job() throws(CairnError) -> KeeperTable.JobName {
        let (user, name) = (try checksum(), try text())
        guard (1...128).contains(name.utf8.count) else { throw Self.malformed("names no job") }
        return .init(user: user, name: name)
    }

    fileprivate mutating func key() throws(CairnError) -> String {
        let key = try text()
        do throws(CairnError) { try StorageKey.validate(key) } catch { throw Self.malformed("has a key that is none") }
        return key
    }

    fileprivate mutating func portion() throws(CairnError) -> Int {
        let count = try integer()
        guard count <= GroupMessage.greatestPortion else { throw Self.malformed("asks for too much at once") }
        return count
    }

    fileprivate mutating func step() throws(CairnError) -> GroupStep {
        GroupStep(job: try job(), step: try integer(), saveID: try text())
    }

    fileprivate mutating func state() throws(CairnError) -> GroupState {
        var state = GroupState(
            incarnation: try integer(), number: try integer(), asks: try bool(), entries: [], running: [])
        for _ in 0..<(try count(eachAtLeast: 45)) {
            let (step, modified, byteCount) = (try step(), try integer(), try integer())
            guard let progress = GroupState.Progress(rawValue: try byte()) else { throw Self.malformed("has no such progress") }
            state.entries.append(.init(step: step, modified: Int64(modified), byteCount: byteCount, progress: progress))
        }
        for _ in 0..<(try count(eachAtLeast: 12)) { state.running.append(try job()) }
        return state
    }
}
