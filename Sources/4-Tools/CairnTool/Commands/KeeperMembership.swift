import CairnBase
import CairnKeeper
import CairnKeeperGroup

/// The place of the keeper that `cairn keep run` is in a group of several hosts' keepers.
final class KeeperMembership {
    let file: GroupFile
    let member: String
    private let key: CurveKey
    private let timeout: Duration
    private var group: KeeperGroup?

    /// `nil` without a group.
    init?(group: String?, member: String?, key: String?, timeout: Double) throws {
        guard let group, let member, let key else { return nil }
        file = try GroupFile(path: group)
        self.member = member
        self.key = try CurveKey(path: key)
        self.timeout = .seconds(timeout)
    }

    func join(_ table: any KeeperTableAccess) throws(CairnError) -> any KeeperPeers {
        let group = try KeeperGroup(file, member: member, key: key, timeout: timeout, table: table)
        self.group = group
        return group
    }

    func end() { group?.stop() }
}
