import CairnBase
import CairnStorage
import Synchronization

/// A storage in which something else happens before one of its calls: another process that comes between.
final class HookedStorage: Storage {
    private struct Hook {
        var callCount = 0
        var call = -1
        var body: (@Sendable () throws -> Void)?
        var failure: (any Error)?
    }

    private let base: any Storage
    private let hook = Mutex(Hook())

    init(_ base: any Storage) { self.base = base }

    /// Before the call with this number, counted from 0, does something; what it throws is kept.
    func before(call: Int, _ body: @escaping @Sendable () throws -> Void) {
        hook.withLock { $0 = Hook(call: call, body: body) }
    }

    /// How many calls there were since.
    var callCount: Int { hook.withLock(\.callCount) }

    /// What the other process threw.
    var failure: (any Error)? { hook.withLock { $0.failure } }

    private func tick() {
        let body = hook.withLock { hook in
            defer { hook.callCount += 1 }
            return hook.callCount == hook.call ? hook.body : nil
        }
        do {
            try body?()
        } catch {
            hook.withLock { $0.failure = error }
        }
    }

    var distinction: Distinction? { base.distinction }

    func open(_ key: String) throws(CairnError) -> any StorageFile {
        tick()
        return try base.open(key)
    }

    func create(_ key: String, byteCount: Int?) throws(CairnError) -> any StorageWriter {
        tick()
        return try base.create(key, byteCount: byteCount)
    }

    func publish(_ bytes: [UInt8], as key: String) throws(CairnError) {
        tick()
        try base.publish(bytes, as: key)
    }

    func list(_ prefix: String) throws(CairnError) -> [StorageEntry] {
        tick()
        return try base.list(prefix)
    }

    func delete(_ keys: [String]) throws(CairnError) {
        tick()
        try base.delete(keys)
    }
}
