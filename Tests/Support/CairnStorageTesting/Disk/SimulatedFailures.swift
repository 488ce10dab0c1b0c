package import CairnBase
import CairnTesting
import Synchronization

/// What a ``SimulatedDisk`` does at a chosen call instead of what was asked.
package enum SimulatedFault: Sendable, Hashable {
    /// The call fails with this `errno` and changes nothing. A failed `fsync` of a file also forgets what was to be
    /// written: it stays readable and is never written, as on Linux (Rebello et al., USENIX ATC 2020).
    case fail(Int32)
    /// This call and every later one that changes something fail with this `errno`; reading continues.
    case failFromHereOn(Int32)
    /// A read or a write moves only half of the bytes. Other calls are not affected.
    case short
    /// The power goes before the call has an effect: it and every later one throw ``SimulatedDiskStopped``.
    case stopBefore
    /// The power goes after the call took effect, but before its caller learned of it.
    case stopAfter
}

/// The cause of every error of a disk that a ``SimulatedFault`` has stopped.
package struct SimulatedDiskStopped: Error, CustomStringConvertible {
    package var description: String { "the simulated disk has stopped" }
}

extension CairnError {
    /// Whether this error, or one that led to it, is that of a stopped ``SimulatedDisk``.
    package var isSimulatedStop: Bool {
        switch cause {
        case is SimulatedDiskStopped: true
        case let inner as CairnError: inner.isSimulatedStop
        default: false
        }
    }
}

/// Which of the changes that were not synchronized survive a power failure.
///
/// The model follows Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014: whatever no `fsync` ordered
/// may be kept, lost or reordered. A file's `fsync` keeps its bytes and size but not its name; a directory's keeps its
/// names.
package enum CrashPolicy: Sendable, Hashable, CaseIterable {
    /// None: only what was synchronized.
    case losePending
    /// All: as if everything had been written just in time.
    case keepPending
    /// All up to some moment and none after it.
    case prefix
    /// Any subset of writes, size changes and directory changes, each as a whole.
    case subset
    /// As ``subset``, but writes fall apart into sectors of 512 bytes; what is missing in a file that kept its size
    /// reads as zeros, as random bytes or as the bytes of another file.
    case torn
}

/// The states a ``SimulatedDisk`` went through: every moment at which the power could have gone.
///
/// Copies of a disk cost little, so one run of a test's work gives all crash points; running it again up to each of
/// them would take quadratic time.
struct CrashHistory: Sendable {
    private(set) var points: [CrashPoint]
    private var milestone = 0

    init(start: SimulatedDiskState) {
        points = [CrashPoint(state: start, call: 0, name: "the start", milestone: 0)]
    }

    mutating func record(_ state: SimulatedDiskState, after name: String, call: Int) {
        points.append(CrashPoint(state: state, call: call, name: name, milestone: milestone))
    }

    /// Notes that the caller has been told something: the state is that of the last point, what may be lost is not.
    mutating func pass(_ state: SimulatedDiskState, call: Int) {
        milestone += 1
        points.append(CrashPoint(state: state, call: call, name: "milestone \(milestone)", milestone: milestone))
    }
}

/// A moment at which the power could go.
package struct CrashPoint: Sendable, CustomStringConvertible {
    let state: SimulatedDiskState
    /// The number of the last call that took effect.
    package let call: Int
    let name: String
    /// How often ``SimulatedDisk/passMilestone()`` was called before.
    package let milestone: Int

    /// The disk that the next boot finds.
    package func crash(_ policy: CrashPolicy, seed: UInt64) -> SimulatedDisk {
        SimulatedDisk(state.crashed(policy, seed: seed))
    }

    package var description: String { "after call \(call) (\(name)), milestone \(milestone)" }
}

extension SimulatedDisk {
    /// From now on every state of the disk is remembered for ``crashPoints``.
    package func startHistory() {
        machine.withLock { $0.history = CrashHistory(start: $0.disk) }
    }

    /// Notes that something is promised to last from here on: ``CrashPoint/milestone`` counts these.
    package func passMilestone() {
        machine.withLock { $0.history?.pass($0.disk, call: $0.callCount) }
    }

    /// Every moment since ``startHistory()`` at which the power could have gone: the start and after each call that
    /// changed something.
    package var crashPoints: [CrashPoint] { machine.withLock { $0.history?.points ?? [] } }
}

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

/// Random numbers that a seed determines.
package struct SimulationRandom: RandomNumberGenerator, Sendable {
    private var generator: SeededGenerator

    package init(seed: UInt64) { generator = SeededGenerator(seed: seed) }

    package mutating func next() -> UInt64 { generator.next() }

    /// True `percent` times out of a hundred.
    mutating func isLucky(percent: UInt64) -> Bool { next() % 100 < percent }

    /// A number below `bound`, which is positive.
    mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
}
