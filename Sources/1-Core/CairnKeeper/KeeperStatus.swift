public import CairnBase
import CairnCheckpoint

/// What a ``Keeper`` has, and what has happened since it was started.
public struct KeeperStatus: Sendable {
    /// A job of a user.
    public struct Job: Sendable {
        public var user: Int
        public var name: String
        /// The steps of its complete checkpoints, in order.
        public var steps: [Int]
        /// The bytes of its objects.
        public var byteCount: Int
        /// How many objects are being written, and their memory in bytes.
        public var writers: Int
        public var writtenByteCount: Int
        /// How many processes of it are connected.
        public var connections: Int
    }

    /// Where it listens.
    public var path: String
    public var process: Int
    /// Since it was started.
    public var seconds: Double
    /// The bytes that it may take, and those that it has taken: of objects, of what is being written, and spare.
    public var memory: Int
    public var usedMemory: Int
    public var jobs: [Job]
    /// Objects and manifests that were completed.
    public var finished: Int
    public var committed: Int
    /// Objects that were not finished when their process went away, and objects for which there was no memory.
    public var abandoned: Int
    public var refused: Int

    /// The keepers of other hosts, if it is one of a group.
    public var group: Group?

    /// - Parameter user: Whose jobs are shown; `nil` for all.
    package init(
        _ table: KeeperTable, of user: UInt32?, path: String, process: Int32, seconds: Double, group: Group? = nil
    ) {
        self.group = group
        self.path = path
        self.process = Int(process)
        self.seconds = seconds
        memory = table.limits.memory
        usedMemory = table.usedByteCount
        (finished, committed) = (table.counters.finished, table.counters.committed)
        (abandoned, refused) = (table.counters.abandoned, table.counters.refused)
        jobs = table.jobs.filter { user == nil || $0.key.user == user }.map { name, objects in
            let connections = table.connections.values.filter { $0.job == name && !$0.isObserver }
            let writers = connections.flatMap(\.writers.values)
            return Job(
                user: Int(name.user), name: name.name,
                steps: objects.keys.filter { $0 == KeeperTable.manifest(beside: $0) }.compactMap(StepName.step).sorted(),
                byteCount: objects.values.reduce(0) { $0.adding(clamped: $1.byteCount) }, writers: writers.count,
                writtenByteCount: writers.reduce(0) { $0.adding(clamped: $1.capacity) }, connections: connections.count)
        }.sorted { ($0.user, $0.name) < ($1.user, $1.name) }
    }

    /// Asks the keeper that listens at a path.
    public init(ofKeeperAt path: String = KeeperStorage.usualPath) throws(CairnError) {
        // A job is needed to say who asks; an observer makes none.
        let connection = try KeeperConnection(path: path, job: "status", isObserver: true, timeout: .seconds(10))
        guard case .status(let members) = try connection.ask(.status).0 else { throw connection.misunderstanding }
        do throws(JSONError) {
            try self.init(members)
        } catch {
            throw error.cairnError(file: path)
        }
    }

    /// Has the keeper at a path forget a job of which no process is connected.
    ///
    /// - Parameter user: Whose job; `nil` for one's own.
    public static func forget(
        _ job: String, of user: Int? = nil, ofKeeperAt path: String = KeeperStorage.usualPath
    ) throws(CairnError) {
        let number = user.flatMap(UInt32.init(exactly:))
        let connection = try KeeperConnection(
            path: path, job: job, isObserver: true, user: number, timeout: .seconds(10))
        _ = try connection.ask(.forget(job: job))
    }
}

// MARK: - JSON

extension KeeperStatus {
    /// The members of its JSON.
    package var members: JSONObject {
        [
            "socket": .string(path), "process": .integer(Int64(process)), "seconds": .double(seconds),
            "memory_bytes": .integer(Int64(memory)), "used_bytes": .integer(Int64(usedMemory)),
            "finished": .integer(Int64(finished)), "committed": .integer(Int64(committed)),
            "abandoned": .integer(Int64(abandoned)), "refused": .integer(Int64(refused)),
            "group": group.map { .object($0.json) } ?? .null,
            "jobs": .array(
                jobs.map { job in
                    .object([
                        "user": .integer(Int64(job.user)), "job": .string(job.name),
                        "steps": .array(job.steps.map { .integer(Int64($0)) }),
                        "bytes": .integer(Int64(job.byteCount)), "writers": .integer(Int64(job.writers)),
                        "writing_bytes": .integer(Int64(job.writtenByteCount)),
                        "connections": .integer(Int64(job.connections)),
                    ])
                }),
        ]
    }

    fileprivate init(_ members: JSONObject) throws(JSONError) {
        path = try members.string("socket")
        process = try members.integer("process")
        seconds = try members.double("seconds")
        memory = try members.integer("memory_bytes")
        usedMemory = try members.integer("used_bytes")
        finished = try members.integer("finished")
        committed = try members.integer("committed")
        abandoned = try members.integer("abandoned")
        refused = try members.integer("refused")
        if let value = members["group"], value != .null { group = try Group(value.asObject()) }
        jobs = []
        for value in try members.array("jobs") {
            let job = try value.asObject()
            var steps: [Int] = []
            for step in try job.array("steps") { steps.append(try step.asInteger()) }
            jobs.append(
                Job(
                    user: try job.integer("user"), name: try job.string("job"), steps: steps,
                    byteCount: try job.integer("bytes"), writers: try job.integer("writers"),
                    writtenByteCount: try job.integer("writing_bytes"), connections: try job.integer("connections")))
        }
    }
}

// MARK: - Metrics

extension KeeperStatus {
    /// The numbers in the text format of Prometheus, which its node exporter takes from a file.
    public var metrics: String {
        var text = ""
        func add(_ name: String, _ kind: String, _ help: String, _ values: [(labels: String, value: Int)]) {
            text += "# HELP cairn_keeper_\(name) \(help)\n# TYPE cairn_keeper_\(name) \(kind)\n"
            for (labels, value) in values { text += "cairn_keeper_\(name)\(labels) \(value)\n" }
        }
        func perJob(_ value: (Job) -> Int) -> [(labels: String, value: Int)] {
            jobs.map { job in
                let name = job.name.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"")
                return ("{user=\"\(job.user)\",job=\"\(name)\"}", value(job))
            }
        }
        group?.addMetrics(add)
        add("memory_bytes", "gauge", "Memory that may be taken.", [("", memory)])
        add("used_bytes", "gauge", "Memory that is taken.", [("", usedMemory)])
        add("objects_finished_total", "counter", "Objects that were completed.", [("", finished)])
        add("checkpoints_committed_total", "counter", "Manifests that were completed.", [("", committed)])
        add("objects_abandoned_total", "counter", "Objects whose process went away.", [("", abandoned)])
        add("objects_refused_total", "counter", "Objects for which there was no memory.", [("", refused)])
        add("job_bytes", "gauge", "Bytes of a job's objects.", perJob(\.byteCount))
        add("job_checkpoints", "gauge", "Complete checkpoints of a job.", perJob(\.steps.count))
        add("job_newest_step", "gauge", "The newest complete step of a job.", perJob { $0.steps.last ?? -1 })
        return text
    }
}
