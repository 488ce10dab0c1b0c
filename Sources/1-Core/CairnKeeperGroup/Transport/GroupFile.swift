package import CairnBase
import CairnStorage

/// Who is in a group of keepers: the same file for every member.
///
/// ```json
/// {"group": "kjv", "parity": 1, "members": [
///   {"name": "a", "address": "tcp://10.0.0.1:7700", "key": "…40 characters…", "rack": "r1"}, …]}
/// ```
package struct GroupFile: Sendable, Hashable {
    package struct Member: Sendable, Hashable {
        package var name: String
        /// Where it listens: `tcp://HOST:PORT`.
        package var address: String
        /// Its public key, as `cairn keep key` prints it.
        package var key: String
        package var rack: String?

        /// The host of its address.
        package var host: Substring {
            let rest = address.dropFirst("tcp://".count)
            return rest[..<(rest.lastIndex(of: ":") ?? rest.endIndex)]
        }
    }

    package var name: String
    /// How many members may be lost.
    package var parity: Int
    package var members: [Member]

    private static let greatestByteCount = 1 << 20
    private static let memberLimit = 64

    package init(path: String) throws(CairnError) {
        let folder = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
        let name = String(path[(path.lastIndex(of: "/").map { path.index(after: $0) } ?? path.startIndex)...])
        let bytes = try LocalStorage(root: folder.isEmpty ? "/" : folder).readAll(name, limit: Self.greatestByteCount)
        try self.init(parsing: bytes, file: path)
    }

    package init(parsing bytes: [UInt8], file: String) throws(CairnError) {
        do throws(JSONError) {
            let object = try JSONValue(parsing: bytes, maximumDepth: 8).asObject()
            name = try object.string("group")
            parity = try object.integer("parity")
            members = []
            for value in try object.array("members") {
                let member = try value.asObject()
                var rack: String?
                if let value = member["rack"], value != .null { rack = try value.asString() }
                members.append(
                    Member(
                        name: try member.string("name"), address: try member.string("address"),
                        key: try member.string("key"), rack: rack))
            }
        } catch {
            throw error.cairnError(file: file)
        }
        try validate(file)
    }

    private func validate(_ file: String) throws(CairnError) {
        func refuse(_ message: String, _ found: String, _ expected: String? = nil, _ advice: String? = nil) -> CairnError {
            CairnError(
                .invalidArgument, message, .init(file: file, expected: expected, found: found.debugDescription, advice: advice))
        }
        guard (1...128).contains(name.utf8.count) else { throw refuse("the group has no usable name", name, "1 to 128 bytes") }
        guard (2...Self.memberLimit).contains(members.count) else {
            throw refuse("a group has not so many members", "\(members.count)", "2 to \(Self.memberLimit)")
        }
        guard (0..<members.count).contains(parity) else {
            throw refuse(
                "the group cannot have so much parity", "\(parity)", "0 to \(members.count - 1), less than its members")
        }
        var names: Set<String> = []
        var hosts: Set<Substring> = []
        var keys: Set<String> = []
        for member in members {
            guard (1...64).contains(member.name.utf8.count),
                member.name.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f && $0 != 0x22 && $0 != 0x5c && $0 != 0x2f })
            else {
                throw refuse(
                    "a member has no usable name", member.name, "1 to 64 letters, digits and signs but quotes and slashes")
            }
            let port = member.address.split(separator: ":").last.flatMap { UInt16($0) } ?? 0
            guard member.address.hasPrefix("tcp://"), !member.host.isEmpty, port > 0, member.host != "*" else {
                throw refuse("member \(member.name) has no usable address", member.address, "tcp://HOST:PORT")
            }
            guard member.key.utf8.count == 40, CurveKey.isPossible(member.key) else {
                throw refuse(
                    "member \(member.name) has no usable key", member.key, "40 characters",
                    "`cairn keep key -o FILE` makes one, and prints what belongs here")
            }
            guard names.insert(member.name).inserted else { throw refuse("two members have one name", member.name) }
            guard hosts.insert(member.host).inserted else {
                throw refuse(
                    "two members are on one host, which would be lost together", String(member.host), nil,
                    "give each host one member")
            }
            guard keys.insert(member.key).inserted else { throw refuse("two members have one key", member.key) }
        }
        let racks = Dictionary(grouping: members.filter { $0.rack != nil }) { $0.rack ?? "" }
        for (rack, there) in racks.sorted(by: { $0.key < $1.key }) where parity > 0 && there.count > parity {
            throw refuse(
                "a rack has more members than may be lost", rack, "at most \(parity) members a rack",
                "spread the group over more racks, raise its parity, or leave the racks out")
        }
    }

    /// What every frame of the group carries, so that members with another group file do not understand each other.
    package var number: UInt64 {
        var hash = Hash64()
        hash.combine(name)
        hash.combine(UInt64(parity))
        for member in members {
            hash.combine(member.name)
            hash.combine(member.key)
        }
        return SplitMix64.mixed(hash.value)
    }
}
