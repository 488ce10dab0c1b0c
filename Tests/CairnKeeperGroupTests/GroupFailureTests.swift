import CairnBase
import CairnKeeper
import CairnKeeperGroup
import CairnTesting
import Testing

/// Single failures of members, in the simulation.
@Suite struct GroupFailureTests {
    private static func group(_ seed: UInt64, _ layout: GroupLayout) throws -> GroupSimulation {
        var group = try GroupSimulation(seed: seed, layout: layout)
        while try !group.save() || group.saves.last?.files.isEmpty != false {}
        group.run(atMost: 2000) { $0.isProtected($0.saves.last) }
        return group
    }

    @Test(arguments: 0..<20) func aHungMemberIsWaitedForOnceNotAgainAndAgain(_ seed: UInt64) throws {
        var group = try Self.group(seed, GroupLayout(memberCount: 4, parityCount: 1))
        let save = try #require(group.saves.last)
        group.hosts[3].isHung = true
        let before = group.ticks
        for _ in 0..<20 { for (key, bytes) in save.files { #expect(try group.read(key, on: 0).get() == bytes) } }
        for _ in 0..<20 { #expect(group.list(on: 0) != nil) }
        // A moment is 5 ms, the timeout 100 ms: all calls together wait for it once, and for nobody else more than a moment or
        // two.
        let calls = 40 * save.files.count
        #expect(group.ticks - before < 25 + 4 * (calls + 20))
    }

    @Test(arguments: 0..<20) func aLiarIsRefusedByTheChecksumsAndNamed(_ seed: UInt64) throws {
        var group = try Self.group(seed, GroupLayout(memberCount: 4, parityCount: 2))
        let save = try #require(group.saves.last)
        group.hosts[2].lies = true
        for (key, bytes) in save.files { #expect(try group.read(key, on: 0).get() == bytes) }
        let asked = save.files.contains { $0.key.contains("rank-02") && !$0.value.isEmpty }
        #expect((group.hosts[0].member.peers[2].wrongAnswers > 0) == asked)
        #expect(group.hosts[0].member.peers[1].wrongAnswers == 0 && group.hosts[0].member.peers[3].wrongAnswers == 0)
    }

    @Test(arguments: 0..<40) func whoComesBackEmptyHasWhatIsProtectedFromItsFirstQuestionOn(_ seed: UInt64) throws {
        var group = try Self.group(seed, GroupLayout(memberCount: 4, parityCount: 2))
        let save = try #require(group.saves.last)
        for index in [2, 3] { group.kill(index) }
        group.run(milliseconds: Int.random(in: 0...300, using: &group.generator))
        for index in [2, 3] { try group.replace(index) }
        // As a keeper offers itself once it has heard of the others.
        group.run(atMost: 200) { group in [0, 1, 3].allSatisfy { group.hosts[2].member.isHeard($0) } }
        for (key, bytes) in save.files { #expect(try group.read(key, on: 2).get() == bytes) }
    }

    @Test func withoutMemoryForParityAStepIsNotProtectedAndItIsSaid() throws {
        var group = try GroupSimulation(
            seed: 3, layout: GroupLayout(memberCount: 3, parityCount: 2), memory: 24 << 10)
        for _ in 0..<8 { _ = try group.save() }
        group.run(milliseconds: 500)
        let saves = group.hosts.flatMap { $0.member.saves(of: nil) }
        #expect(saves.contains { $0.problem.contains("memory") && $0.lossesLeft <= 0 })
    }

    @Test func whatNobodyWillCommitGoesWithTheLastProcessOfAllHosts() throws {
        var group = try Self.group(5, GroupLayout(memberCount: 3, parityCount: 1))
        let save = try #require(group.saves.last)
        for _ in 0..<3 { _ = try group.save(isCutShort: true) }
        group.killTrainers()
        group.run(milliseconds: 500)
        for host in group.hosts {
            let keys = host.table.change { Set(($0.jobs[GroupSimulation.job] ?? [:]).keys) }
            #expect(keys.allSatisfy { save.files[$0] != nil || $0.hasSuffix("manifest.json") })
        }
    }
}
