package import CairnBase
package import CairnStorage

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Lets one process at a time delete files of a store that checkpoints may refer to. Saves never wait for it.
///
/// Made of what every storage can do: each publishes an object of its own and then looks for those of others. Of two that come
/// at once, the later sees the earlier, and both may give way. What a process left that died is ignored: at once where it ran on
/// this machine, and elsewhere when it is older than ``patience``.
package struct DeletionLock: Sendable {
    /// How long one waits for another process.
    @TaskLocal package static var waiting = Duration.seconds(10)

    private static let beginning = "deleting-"
    private static let ending = ".json"
    private static let schema = "cairn-deleting/1"
    /// In seconds. One that works longer renews its object.
    private static let patience = 600.0

    private let storage: any Storage
    private let key: String

    /// Waits until nobody else deletes.
    ///
    /// - Throws: ``CairnError/Code/inputOutput`` when another has not ended in time; what the storage throws.
    package init(_ storage: any Storage) throws(CairnError) {
        self.storage = storage
        key = Self.beginning + String(SaveID().description.prefix(16)) + Self.ending
        let deadline = ContinuousClock.now + Self.waiting
        while true {
            var others: [StorageEntry] = []
            do throws(CairnError) {
                try storage.publish(Self.note, as: key)
                others = try Self.holders(storage, besides: key)
            } catch {
                try? storage.delete([key])
                throw error
            }
            guard let other = others.first else { return }
            try storage.delete([key])
            guard ContinuousClock.now < deadline else {
                throw CairnError(
                    .inputOutput, "another process is deleting checkpoints of this store",
                    .init(
                        file: storage.location(of: other.key),
                        advice: "try again later; if that process no longer exists, delete this file"))
            }
            usleep(UInt32.random(in: 5_000..<50_000))
        }
    }

    /// Says that this process is still at work, and learns whether it still has the lock.
    ///
    /// - Throws: ``CairnError/Code/inputOutput`` when another one took it for dead.
    func renew() throws(CairnError) {
        let age = try storage.list(key).first.map { currentTime() - Double($0.modified) / 1e9 }
        guard let age else {
            throw CairnError(
                .inputOutput, "another process took this one for dead while it deleted checkpoints",
                .init(file: storage.location(of: key), advice: "try again"))
        }
        if age > Self.patience / 4 { try storage.publish(Self.note, as: key) }
    }

    /// Lets others delete. A failure leaves an object that is ignored later.
    package func release() { try? storage.delete([key]) }

    /// Does what deletes files, while nobody else does.
    static func hold<Result>(
        _ storage: any Storage, _ body: (DeletionLock) throws(CairnError) -> Result
    ) throws(CairnError) -> Result {
        let lock = try DeletionLock(storage)
        defer { lock.release() }
        return try body(lock)
    }

    /// Whether an object of a store is one of these.
    private static func isOwn(_ key: String) -> Bool { key.hasPrefix(beginning) && key.hasSuffix(ending) }

    /// Those that are there, finished or not: what is old among them was left by processes that died.
    static func all(in storage: any Storage) throws(CairnError) -> [StorageEntry] { try storage.list(beginning) }

    /// Whether a key is that of one, finished or not.
    static func isAny(_ key: String) -> Bool { key.hasPrefix(beginning) }

    /// Those of others who may be alive; removes the rest.
    private static func holders(_ storage: any Storage, besides own: String) throws(CairnError) -> [StorageEntry] {
        var dead: [String] = []
        var living: [StorageEntry] = []
        for entry in try storage.list(beginning) where entry.key != own && isOwn(entry.key) {
            if currentTime() - Double(entry.modified) / 1e9 > patience || isOfDeadProcess(storage, entry.key) {
                dead.append(entry.key)
            } else {
                living.append(entry)
            }
        }
        if !dead.isEmpty { try storage.delete(dead) }
        return living
    }

    private static func isOfDeadProcess(_ storage: any Storage, _ key: String) -> Bool {
        guard let bytes = try? storage.readAll(key, limit: 4096),
            let object = try? JSONValue(parsing: bytes, maximumDepth: 2).asObject(),
            (try? object.string("schema")) == schema, (try? object.string("machine")) == machine,
            let process = try? object.integer("process"), let number = pid_t(exactly: process), number > 0
        else { return false }
        return kill(number, 0) != 0 && errno == ESRCH
    }

    private static var note: [UInt8] {
        let json: JSONValue = .object([
            "schema": .string(schema), "machine": .string(machine), "process": .integer(Int64(getpid())),
        ])
        return Array(text(json).utf8)
    }

    /// What tells apart machines, their starts, and name spaces of process numbers within one.
    private static let machine: String = {
        var parts: [String] = []
        var name = [CChar](repeating: 0, count: 256)
        if gethostname(&name, name.count - 1) == 0 {
            parts.append(String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self))
        }
        #if os(Linux)
        if let boot = fopen("/proc/sys/kernel/random/boot_id", "r") {
            var line = [CChar](repeating: 0, count: 64)
            if fgets(&line, Int32(line.count), boot) != nil {
                parts.append(String(decoding: line.prefix(36).map { UInt8(bitPattern: $0) }, as: UTF8.self))
            }
            fclose(boot)
        }
        var link = [CChar](repeating: 0, count: 64)
        let count = readlink("/proc/self/ns/pid", &link, link.count - 1)
        if count > 0 { parts.append(String(decoding: link.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self)) }
        #endif
        return parts.joined(separator: " ")
    }()
}
