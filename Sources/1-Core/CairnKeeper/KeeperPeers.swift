package import CairnBase
package import CairnStorage

/// The keepers of other hosts, as the keeper of this one sees them. Their calls may wait, each at most as long as the group's
/// timeouts allow.
package protocol KeeperPeers: AnyObject, Sendable {
    /// What others have of a job under keys that begin with a prefix.
    func list(_ job: KeeperTable.JobName, prefix: String) -> [StorageEntry]
    /// An object that this host does not have.
    ///
    /// - Throws: ``CairnError/Code/notFound``; ``CairnError/Code/inputOutput`` where a checkpoint has it, and too few are there.
    func find(_ job: KeeperTable.JobName, key: String) throws(CairnError) -> KeeperRemoteObject
    /// Bytes of an object, rebuilt from parity where the host that has it is lost.
    func read(_ job: KeeperTable.JobName, _ object: KeeperRemoteObject, _ range: Range<Int>) throws(CairnError) -> [UInt8]
    /// Deletes everywhere, but leaves the files of a checkpoint that the group still needs until a newer one is protected.
    func delete(_ job: KeeperTable.JobName, keys: [String])
    /// An object was finished, or a process has gone.
    func changed()
    /// Says everywhere that a job is forgotten.
    func forget(_ job: KeeperTable.JobName)
    /// What ``KeeperStatus`` shows of the group.
    func status(of user: UInt32?) -> KeeperStatus.Group
}

/// An object that another host's keeper has, or can be rebuilt from what others have.
package struct KeeperRemoteObject: Sendable, Hashable {
    package var key: String
    package var byteCount: Int
    package var modified: Int64
    /// Which member has it.
    package var member: Int
    /// Where it begins in the member's bundle of a protected save; `nil` for an object that is in none.
    package var place: Place?

    package struct Place: Sendable, Hashable {
        package var step: Int
        package var saveID: String
        package var offset: Int

        package init(step: Int, saveID: String, offset: Int) {
            self.step = step
            self.saveID = saveID
            self.offset = offset
        }
    }

    package init(key: String, byteCount: Int, modified: Int64, member: Int, place: Place? = nil) {
        self.key = key
        self.byteCount = byteCount
        self.modified = modified
        self.member = member
        self.place = place
    }
}

/// Reaches the table of a keeper, under its lock.
package protocol KeeperTableAccess: AnyObject, Sendable {
    func change<Result, Failure: Error>(_ body: (inout KeeperTable) throws(Failure) -> Result) throws(Failure) -> Result
}
