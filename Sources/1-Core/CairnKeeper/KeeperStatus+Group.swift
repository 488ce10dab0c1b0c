import CairnBase

extension KeeperStatus {
    /// What a ``Keeper`` knows of the group that it is one of.
    public struct Group: Sendable {
        /// A keeper of the group.
        public struct Member: Sendable {
            public var name: String
            public var address: String
            /// Whether it answers; this keeper itself does.
            public var isReachable: Bool
            /// What is wrong with it, in words; empty if nothing is.
            public var problem: String
            /// How often it gave bytes that their checksums refuse, and let an answer be waited for in vain.
            public var wrongAnswers: Int
            public var lateAnswers: Int

            package init(
                name: String, address: String, isReachable: Bool, problem: String, wrongAnswers: Int, lateAnswers: Int
            ) {
                self.name = name
                self.address = address
                self.isReachable = isReachable
                self.problem = problem
                self.wrongAnswers = wrongAnswers
                self.lateAnswers = lateAnswers
            }
        }

        /// A checkpoint that the group holds.
        public struct Save: Sendable {
            public var user: Int
            public var job: String
            public var step: Int
            /// How many members have all of their part and of its parity, and are reachable.
            public var completeMembers: Int
            /// How many members may still be lost; below 0 if too many are lost now.
            public var lossesLeft: Int
            /// Bytes of parity here, and of what this keeper has rebuilt.
            public var parityByteCount: Int
            public var rebuiltByteCount: Int
            /// Why it cannot be protected; empty if nothing keeps it from that.
            public var problem: String

            package init(
                user: Int, job: String, step: Int, completeMembers: Int, lossesLeft: Int, parityByteCount: Int,
                rebuiltByteCount: Int, problem: String
            ) {
                self.user = user
                self.job = job
                self.step = step
                self.completeMembers = completeMembers
                self.lossesLeft = lossesLeft
                self.parityByteCount = parityByteCount
                self.rebuiltByteCount = rebuiltByteCount
                self.problem = problem
            }
        }

        public var name: String
        /// The name of this keeper in it.
        public var member: String
        /// How many members may be lost once a checkpoint is protected.
        public var parity: Int
        public var members: [Member]
        public var saves: [Save]
        /// Connections that were refused, and frames that were none, since the start; and the last of them in words.
        public var refused: Int
        public var malformed: Int
        public var lastRefusal: String

        package init(
            name: String, member: String, parity: Int, members: [Member], saves: [Save], refused: Int, malformed: Int,
            lastRefusal: String
        ) {
            self.name = name
            self.member = member
            self.parity = parity
            self.members = members
            self.saves = saves
            self.refused = refused
            self.malformed = malformed
            self.lastRefusal = lastRefusal
        }
    }
}

extension KeeperStatus.Group.Save {
    /// Whether any as many members as the group has parity may be lost.
    package func isProtected(by parity: Int) -> Bool { parity > 0 && lossesLeft == parity }
}

extension KeeperStatus.Group {
    /// What of a checkpoint may still be lost, in words.
    package func risk(of save: Save) -> String {
        if save.lossesLeft > 0 { return "any \(save.lossesLeft) of \(members.count) hosts may be lost" }
        if save.lossesLeft == 0 { return "no host may be lost" }
        return "too many hosts are lost"
    }

    var json: JSONObject {
        [
            "name": .string(name), "member": .string(member), "parity": .integer(Int64(parity)),
            "refused": .integer(Int64(refused)), "malformed": .integer(Int64(malformed)),
            "last_refusal": .string(lastRefusal),
            "members": .array(
                members.map { member in
                    .object([
                        "name": .string(member.name), "address": .string(member.address),
                        "reachable": .bool(member.isReachable), "problem": .string(member.problem),
                        "wrong_answers": .integer(Int64(member.wrongAnswers)),
                        "late_answers": .integer(Int64(member.lateAnswers)),
                    ])
                }),
            "saves": .array(
                saves.map { save in
                    .object([
                        "user": .integer(Int64(save.user)), "job": .string(save.job), "step": .integer(Int64(save.step)),
                        "protected": .bool(save.isProtected(by: parity)),
                        "complete_members": .integer(Int64(save.completeMembers)),
                        "losses_left": .integer(Int64(save.lossesLeft)),
                        "parity_bytes": .integer(Int64(save.parityByteCount)),
                        "rebuilt_bytes": .integer(Int64(save.rebuiltByteCount)), "problem": .string(save.problem),
                    ])
                }),
        ]
    }

    init(_ object: JSONObject) throws(JSONError) {
        name = try object.string("name")
        member = try object.string("member")
        parity = try object.integer("parity")
        refused = try object.integer("refused")
        malformed = try object.integer("malformed")
        lastRefusal = try object.string("last_refusal")
        members = []
        for value in try object.array("members") {
            let member = try value.asObject()
            members.append(
                Member(
                    name: try member.string("name"), address: try member.string("address"),
                    isReachable: try member.bool("reachable"), problem: try member.string("problem"),
                    wrongAnswers: try member.integer("wrong_answers"), lateAnswers: try member.integer("late_answers")))
        }
        saves = []
        for value in try object.array("saves") {
            let save = try value.asObject()
            saves.append(
                Save(
                    user: try save.integer("user"), job: try save.string("job"), step: try save.integer("step"),
                    completeMembers: try save.integer("complete_members"), lossesLeft: try save.integer("losses_left"),
                    parityByteCount: try save.integer("parity_bytes"), rebuiltByteCount: try save.integer("rebuilt_bytes"),
                    problem: try save.string("problem")))
        }
    }

    func addMetrics(_ add: (String, String, String, [(labels: String, value: Int)]) -> Void) {
        func perMember(_ value: (Member) -> Int) -> [(labels: String, value: Int)] {
            members.map { ("{member=\"\($0.name)\"}", value($0)) }
        }
        func perSave(_ value: (Save) -> Int) -> [(labels: String, value: Int)] {
            saves.map { save in
                let job = save.job.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"")
                return ("{user=\"\(save.user)\",job=\"\(job)\",step=\"\(save.step)\"}", value(save))
            }
        }
        add("group_member_reachable", "gauge", "Whether a member of the group answers.", perMember { $0.isReachable ? 1 : 0 })
        add("group_wrong_answers_total", "counter", "Bytes that their checksums refused.", perMember(\.wrongAnswers))
        add("group_late_answers_total", "counter", "Answers waited for in vain.", perMember(\.lateAnswers))
        add("group_save_losses_left", "gauge", "How many hosts may still be lost.", perSave(\.lossesLeft))
        add("group_parity_bytes", "gauge", "Parity that is held here.", perSave(\.parityByteCount))
        add("group_refused_total", "counter", "Connections that were refused.", [("", refused)])
        add("group_malformed_total", "counter", "Frames that were none.", [("", malformed)])
    }
}
