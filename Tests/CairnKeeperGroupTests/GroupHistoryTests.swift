import CairnBase
import CairnCheckpoint
import CairnKeeper
import CairnKeeperGroup
import CairnStorage
import CairnTesting
import Testing

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Random histories of a group. CAIRN_GROUP_HISTORIES says how many there are.
@Suite struct GroupHistoryTests {
    private static let count = getenv("CAIRN_GROUP_HISTORIES").flatMap { Int(String(cString: $0)) } ?? 400
    private static let parts = 8

    @Test(.tags(.slow), arguments: 0..<parts)
    func noHistoryGivesOtherBytesAndWhatIsProtectedOutlivesItsLosses(_ part: Int) throws {
        let seed = getenv("CAIRN_SEED").flatMap { UInt64(String(cString: $0)) } ?? UInt64.random(in: 0...UInt64.max)
        for history in 0..<Self.count / Self.parts {
            try play(seed: seed &+ UInt64(part * 1_000_000 + history))
        }
    }

    private func play(seed: UInt64) throws {
        var group = try GroupSimulation(seed: seed)
        let context = Comment(rawValue: "seed \(seed), \(group.layout)")
        for _ in 0..<Int.random(in: 3...12, using: &group.generator) {
            let index = Int.random(in: group.hosts.indices, using: &group.generator)
            switch Int.random(in: 0..<16, using: &group.generator) {
            case 0...5:
                _ = try group.save()
                // As retention would: older ones go.
                if Bool.random(using: &group.generator), let leader = group.hosts.firstIndex(where: \.isAlive) {
                    for save in group.saves.dropLast().suffix(2) { group.delete(save, from: leader) }
                }
            case 6: _ = try group.save(isCutShort: true)
            case 7: group.killTrainers()
            case 8: group.kill(index)
            case 9, 10: try group.replace(index)
            case 11: group.hosts[index].isHung.toggle()
            case 12: group.hosts[index].lies.toggle()
            case 13:
                group.loss = [0, 10, 40].randomElement(using: &group.generator) ?? 0
                group.doubling = [0, 20].randomElement(using: &group.generator) ?? 0
                group.delay = [0, 5, 60].randomElement(using: &group.generator).map { $0 * GroupSimulation.millisecond } ?? 0
            case 14:
                let other = Int.random(in: group.hosts.indices, using: &group.generator)
                if other != index { group.cuts.formSymmetricDifference([[min(index, other), max(index, other)]]) }
            default: try lookAtAll(&group, context)
            }
            group.run(milliseconds: Int.random(in: 0...150, using: &group.generator))
        }
        try lookAtAll(&group, context)

        // Everybody comes back, though empty, and the network is calm: what is left can be read, and a new save is protected.
        group.calm()
        for index in group.hosts.indices where !group.hosts[index].isAlive { try group.replace(index) }
        group.run(atMost: 400) { $0.isWhole($0.saves.last) }
        try lookAtAll(&group, context)
        guard try group.save() else { return }
        group.run(atMost: 3000) { $0.isProtected($0.saves.last) }
        for index in group.hosts.indices {
            let last = try #require(group.saves.last)
            #expect(group.newestProtected(on: index)?.step == last.step, "\(context), \(group.picture(of: last))")
            #expect(group.unaccounted(on: index) == 0, context)
        }
        try loseSome(&group, context)
    }

    /// Nothing that is read under a key is anything else than what was saved under it.
    private func lookAtAll(_ group: inout GroupSimulation, _ context: Comment) throws {
        guard
            let index = group.hosts.indices.filter({ group.hosts[$0].isAlive && !group.hosts[$0].isHung })
                .randomElement(using: &group.generator)
        else { return }
        for save in group.saves.suffix(3) {
            for (key, bytes) in save.files.sorted(by: { $0.key < $1.key }) {
                switch group.read(key, on: index) {
                case .success(let found):
                    // A liar changes what has no description yet; what reads it checks it again.
                    if found != bytes { #expect(group.hosts.contains { $0.lies }, context) }
                case .failure(let error):
                    #expect([.notFound, .inputOutput, .incomplete].contains(error.code), context)
                }
            }
        }
        for index in group.hosts.indices where group.hosts[index].isAlive {
            #expect(group.unaccounted(on: index) == 0, context)
        }
    }

    /// After the loss of as many members as there is parity all of the newest save can be read; after one more, what cannot is
    /// said.
    private func loseSome(_ group: inout GroupSimulation, _ context: Comment) throws {
        guard let save = group.saves.last else { return }
        let order = group.hosts.indices.shuffled(using: &group.generator)
        let (lost, left) = (order.prefix(group.layout.parityCount), order.dropFirst(group.layout.parityCount))
        for index in lost { group.kill(index) }
        if Bool.random(using: &group.generator) { group.run(milliseconds: 150) }
        guard let reader = left.first else { return }
        for (key, bytes) in save.files { #expect((try? group.read(key, on: reader).get()) == bytes, context) }
        let listed = Set(group.list(on: reader)?.map(\.key) ?? [])
        let here = Set(group.hosts[reader].table.change { $0.jobs[GroupSimulation.job] ?? [:] }.keys)
        #expect(Set(save.files.keys).isSubset(of: listed.union(here)), context)

        // They come back empty: all is rebuilt, and any others may go.
        for index in lost { try group.replace(index) }
        group.run(atMost: 3000) { $0.isProtected(save) && $0.isWhole(save) }
        for index in group.hosts.indices {
            #expect(group.newestProtected(on: index)?.step == save.step, "\(context), \(group.picture(of: save))")
            for (key, bytes) in save.files {
                let local = group.hosts[index].table.change { $0.jobs[GroupSimulation.job]?[key] }
                if let local { #expect(try local.memory.bytes(0..<local.byteCount) == bytes, context) }
            }
        }
        let second = group.hosts.indices.shuffled(using: &group.generator)
        for index in second.prefix(group.layout.parityCount) { group.kill(index) }
        guard let reader = second.last else { return }
        for (key, bytes) in save.files { #expect((try? group.read(key, on: reader).get()) == bytes, context) }

        // One more is too many.
        for index in second.prefix(group.layout.parityCount + 1) where group.layout.dataCount > 1 { group.kill(index) }
        for (key, bytes) in save.files {
            switch group.read(key, on: reader) {
            case .success(let found): #expect(found == bytes, context)
            case .failure(let error): #expect(error.code == .inputOutput, context)
            }
        }
    }
}
