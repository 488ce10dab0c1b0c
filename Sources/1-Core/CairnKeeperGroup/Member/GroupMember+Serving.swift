import CairnBase
import CairnKeeper
import CairnStorage

/// What a member answers to others, and what it has itself.
extension GroupMember {
    /// How many entries an answer has at most.
    private static let pageCount = 2000

    mutating func answer(_ request: GroupMessage) -> GroupMessage {
        switch request {
        case .list(let job, let prefix, let after):
            let entries = access.change { $0.entries(of: job, prefix: prefix, after: after) }
            return .entries(Array(entries.prefix(Self.pageCount)), isComplete: entries.count <= Self.pageCount)
        case .find(let job, let key):
            guard let object = access.change({ $0.jobs[job]?[key] }) else { return .none }
            return .entries([StorageEntry(key: key, byteCount: object.byteCount, modified: object.modified)], isComplete: true)
        case .read(let job, let key, let modified, let offset, let count):
            guard let end = offset.adding(checked: count), let bytes = localBytes(job, key, offset..<end, modified: modified)
            else { return .none }
            return .bytes(bytes)
        case .delete(let job, let keys):
            access.change { table in for key in keys { table.remove(key, of: job) } }
            hasChanged = true
            return .done
        case .describe(let step, let member):
            return description(of: step, member)
        case .bundle(let step, let offset, let count):
            guard let descriptor = steps[step]?.descriptors[own], let end = offset.adding(checked: count),
                end <= descriptor.byteCount, let bytes = bundleBytes(step, descriptor.items, offset..<end)
            else { return .none }
            return .bytes(bytes)
        case .parity(let step, let stripe, let offset, let count):
            guard let end = offset.adding(checked: count), let bytes = parityBytes(step, stripe, offset..<end) else {
                return .none
            }
            return .bytes(bytes)
        default: return .none
        }
    }

    private mutating func description(of step: GroupStep, _ member: Int) -> GroupMessage {
        guard let state = steps[step] else { return dropped.contains(step) ? .none : .later }
        guard state.descriptors.indices.contains(member) else { return .none }
        if let descriptor = state.descriptors[member] { return .descriptor(descriptor) }
        return member == own && describeOwn(step) ? .later : .none
    }

    func parityBytes(_ step: GroupStep, _ stripe: Int, _ range: Range<Int>) -> [UInt8]? {
        guard let state = steps[step], let geometry = state.geometry, range.upperBound <= geometry.block,
            let parity = state.parities.first(where: { $0.stripe == stripe }), parity.isComplete
        else { return nil }
        return try? parity.memory.bytes(range)
    }

    /// A part of some objects of a save, one after the other; `nil` unless all of it is here.
    func bundleBytes(_ step: GroupStep, _ items: [BundleDescriptor.Item], _ range: Range<Int>) -> [UInt8]? {
        var bytes: [UInt8] = []
        var offset = 0
        for item in items {
            let part = range.clamped(to: offset..<offset + item.byteCount)
            if !part.isEmpty {
                guard let found = localBytes(step.job, item.key, part.lowerBound - offset..<part.upperBound - offset) else {
                    return nil
                }
                if found.count == range.count { return found }
                bytes += found
            }
            offset += item.byteCount
        }
        return bytes.count == range.count ? bytes : nil
    }

    /// Bytes of an object of this host.
    func localBytes(
        _ job: KeeperTable.JobName, _ key: String, _ range: Range<Int>, modified: Int64? = nil
    ) -> [UInt8]? {
        guard let object = access.change({ $0.jobs[job]?[key] }), range.upperBound <= object.byteCount,
            modified == nil || object.modified == modified, let bytes = try? object.memory.bytes(range)
        else { return nil }
        // Its memory may have been given to another object meanwhile.
        guard access.change({ $0.jobs[job]?[key]?.memory === object.memory }) else { return nil }
        return bytes
    }
}
