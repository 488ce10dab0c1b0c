extension SimulatedDiskState {
    /// The disk as the next boot finds it.
    func crashed(_ policy: CrashPolicy, seed: UInt64) -> SimulatedDiskState {
        var survival = Survival(policy, seed: seed, firstSequence: firstPendingSequence, endSequence: sequence)
        var survivors = [SimulatedInode?](repeating: nil, count: inodes.count)
        for (index, inode) in inodes.enumerated() {
            guard let inode else { continue }
            var survivor = SimulatedInode(isDirectory: inode.isDirectory)
            survivor.modified = inode.modified
            if inode.isDirectory {
                survivor.durableEntries = survival.names(of: inode)
                survivor.entries = survivor.durableEntries
            } else {
                survivor.durableBytes = survival.bytes(of: inode, among: inodes)
                survivor.bytes = survivor.durableBytes
            }
            survivors[index] = survivor
        }
        return SimulatedDiskState(capacity: capacity, sequence: sequence, nextToken: nextToken, survivors: survivors)
    }

    /// A disk just booted from `survivors`, of which only those stay that the root leads to.
    private init(capacity: Int, sequence: Int, nextToken: UInt64, survivors: [SimulatedInode?]) {
        self.init(capacity: capacity)
        self.sequence = sequence
        // A token of before the crash may be part of a name that survived.
        self.nextToken = nextToken
        inodes = [SimulatedInode?](repeating: nil, count: survivors.count)
        var queue = [Self.root]
        while let index = queue.popLast() {
            guard var inode = survivors[index], inodes[index] == nil else { continue }
            inode.links = 1
            inodes[index] = inode
            used += inode.bytes.count
            queue.append(contentsOf: inode.entries.values)
        }
    }

    private var firstPendingSequence: Int {
        inodes.reduce(sequence) { first, inode in
            min(first, inode?.pendingData.first?.sequence ?? first, inode?.pendingNames.first?.sequence ?? first)
        }
    }
}

/// Decides change by change what a power failure leaves. Inodes and changes are asked for in a fixed order, so that the
/// seed decides everything.
private struct Survival {
    private static let sectorSize = 512

    private enum Filler { case zeros, random, otherFile }

    private let policy: CrashPolicy
    private let end: Int
    private let percent: UInt64
    private var random: SimulationRandom

    init(_ policy: CrashPolicy, seed: UInt64, firstSequence: Int, endSequence: Int) {
        self.policy = policy
        random = SimulationRandom(seed: seed)
        percent = [10, 50, 90][random.below(3)]
        end = firstSequence + random.below(endSequence - firstSequence + 1)
    }

    mutating func names(of inode: SimulatedInode) -> [String: Int] {
        var names = inode.durableEntries
        for pending in inode.pendingNames where survives(pending.sequence) {
            for (name, inode) in pending.change.assignments { names[name] = inode }
        }
        return names
    }

    mutating func bytes(of inode: SimulatedInode, among inodes: [SimulatedInode?]) -> [UInt8] {
        if inode.pendingData.isEmpty { return inode.durableBytes }
        switch policy {
        case .losePending: return inode.durableBytes
        case .keepPending where !inode.hasLostWrites: return inode.bytes
        default: break
        }
        var bytes = inode.durableBytes
        var byteCount = bytes.count
        let filler = [Filler.zeros, .random, .otherFile][random.below(3)]
        for pending in inode.pendingData {
            switch pending.change {
            case .resize(let count):
                guard survives(pending.sequence) else { continue }
                // Bytes beyond the old size may have arrived before the size did: only a shorter file loses them.
                if count < byteCount { bytes.removeLast(max(0, bytes.count - count)) }
                byteCount = count
            case .write(let offset, let written) where policy == .torn:
                tear(written, at: offset, filler: filler, among: inodes, into: &bytes)
            case .write:
                if survives(pending.sequence) { SimulatedInode.apply(pending.change, to: &bytes) }
            }
        }
        SimulatedInode.apply(.resize(byteCount), to: &bytes)
        return bytes
    }

    /// Keeps each sector of a write or not. A lost one shows what was there before it, or the filler in a file that had
    /// no bytes there yet.
    private mutating func tear(
        _ written: [UInt8], at offset: Int, filler: Filler, among inodes: [SimulatedInode?], into bytes: inout [UInt8]
    ) {
        let other = filler == .otherFile ? inodes[random.below(inodes.count)]?.bytes ?? [] : []
        var start = offset
        while start < offset + written.count {
            let end = min(offset + written.count, (start / Self.sectorSize + 1) * Self.sectorSize)
            if random.isLucky(percent: percent) {
                SimulatedInode.copy(written[start - offset..<end - offset], to: start, of: &bytes)
            } else if bytes.count < end {
                SimulatedInode.grow(&bytes, to: start)
                switch filler {
                case .zeros: break
                case .random: while bytes.count < end { bytes.append(UInt8(truncatingIfNeeded: random.next())) }
                case .otherFile: if other.count >= end { bytes.append(contentsOf: other[bytes.count..<end]) }
                }
            }
            start = end
        }
    }

    private mutating func survives(_ sequence: Int) -> Bool {
        switch policy {
        case .losePending: false
        case .keepPending: true
        case .prefix: sequence < end
        case .subset, .torn: random.isLucky(percent: percent)
        }
    }
}
