public import CairnBase

/// Ranks that talk to each other.
///
/// Calls block. Every rank of a group makes the same collective calls (all but ``send(_:to:tag:)``,
/// ``receive(_:from:tag:)`` and ``fail(_:)``) in the same order; a rank that makes another one, or the same with
/// other sizes, is found out: every rank throws an error of code `mismatch` that names both ranks and both calls.
///
/// Sums are taken in rank order, so they have the same bits on every rank, in every run and under every implementation.
///
/// A communicator serves one thread of its rank at a time. Threads that work side by side each need a group of their
/// own, made with ``split(color:key:)``.
///
/// Errors name ranks as the whole job counts them, also in a group made by ``split(color:key:)``.
public protocol Communicator: AnyObject, Sendable {
    /// The index of this rank in the group, from zero.
    var rank: Int { get }
    /// How many ranks the group has.
    var size: Int { get }

    /// Returns once every rank has called it.
    func barrier() throws(CairnError)

    /// Copies the bytes of rank `root` into the buffer of every other rank.
    func broadcast(_ buffer: UnsafeMutableRawBufferPointer, from root: Int) throws(CairnError)

    /// Replaces each value by its sum over all ranks.
    func allReduceSum(_ values: UnsafeMutableBufferPointer<Float>) throws(CairnError)

    /// Replaces each value by its sum over all ranks.
    func allReduceSum(_ values: UnsafeMutableBufferPointer<Double>) throws(CairnError)

    /// Sums over all ranks what of `values` belongs to this one.
    ///
    /// The values lie rank after rank, `counts[r]` of them for rank `r`. When the call returns, this rank's slice holds
    /// the sums; the others hold what they held.
    func reduceScatterSum(_ values: UnsafeMutableBufferPointer<Float>, counts: [Int]) throws(CairnError)

    /// Sums over all ranks what of `values` belongs to this one.
    ///
    /// The values lie rank after rank, `counts[r]` of them for rank `r`. When the call returns, this rank's slice holds
    /// the sums; the others hold what they held.
    func reduceScatterSum(_ values: UnsafeMutableBufferPointer<Double>, counts: [Int]) throws(CairnError)

    /// Fills each rank's slice of the buffer with what that rank has in its own.
    ///
    /// The slices lie rank after rank, `counts[r]` bytes for rank `r`.
    func allGather(_ buffer: UnsafeMutableRawBufferPointer, counts: [Int]) throws(CairnError)

    /// The messages of all ranks, in rank order, at rank `root`; `nil` elsewhere. They may differ in length.
    func gather(_ message: [UInt8], at root: Int) throws(CairnError) -> [[UInt8]]?

    /// The message of rank `root`, which alone has to pass one.
    func broadcast(message: [UInt8]?, from root: Int) throws(CairnError) -> [UInt8]

    /// Sends bytes to a rank of the group, this one included.
    ///
    /// It never waits for the receiver: the bytes are copied and kept until they are received. Messages with the same
    /// sender, receiver and tag arrive in the order they were sent. `tag` is between 0 and 32,767.
    func send(_ buffer: UnsafeRawBufferPointer, to rank: Int, tag: Int) throws(CairnError)

    /// Waits for the oldest message of `rank` with that tag. It must be as long as the buffer.
    func receive(_ buffer: UnsafeMutableRawBufferPointer, from rank: Int, tag: Int) throws(CairnError)

    /// Divides the group: ranks that pass the same color (0 or more) make one, ordered by `key` and, where keys are
    /// equal, by their rank in this group.
    func split(color: Int, key: Int) throws(CairnError) -> any Communicator

    /// Ends the group and all that were split off it, because this rank cannot continue.
    ///
    /// Every waiting and every later call of every rank throws an error with the code of `error`, whose `context.rank`
    /// is this rank and whose cause is a ``RankFailure`` with the reason. The first failure counts. Where ranks cannot
    /// be woken (MPI), the reason is printed and the whole job ends.
    func fail(_ error: CairnError)
}

/// The calls of a communicator with Swift's own arrays and spans.
extension Communicator {
    /// Replaces each value by its sum over all ranks.
    public func allReduceSum(_ values: inout MutableSpan<Float>) throws(CairnError) {
        try values.withUnsafeMutableBufferPointer { (buffer) throws(CairnError) in try allReduceSum(buffer) }
    }

    /// Replaces each value by its sum over all ranks.
    public func allReduceSum(_ values: inout MutableSpan<Double>) throws(CairnError) {
        try values.withUnsafeMutableBufferPointer { (buffer) throws(CairnError) in try allReduceSum(buffer) }
    }

    /// Replaces each value by its sum over all ranks.
    public func allReduceSum(_ values: inout [Float]) throws(CairnError) {
        try values.withUnsafeMutableBufferPointer { (buffer) throws(CairnError) in try allReduceSum(buffer) }
    }

    /// Replaces each value by its sum over all ranks.
    public func allReduceSum(_ values: inout [Double]) throws(CairnError) {
        try values.withUnsafeMutableBufferPointer { (buffer) throws(CairnError) in try allReduceSum(buffer) }
    }

    /// The sum of one value of each rank.
    public func sum(_ value: Double) throws(CairnError) -> Double {
        var values = [value]
        try allReduceSum(&values)
        return values[0]
    }

    /// Sums over all ranks what of `values` belongs to this one: see the call with a buffer.
    public func reduceScatterSum(_ values: inout [Float], counts: [Int]) throws(CairnError) {
        try values.withUnsafeMutableBufferPointer { (buffer) throws(CairnError) in
            try reduceScatterSum(buffer, counts: counts)
        }
    }

    /// Sums over all ranks what of `values` belongs to this one: see the call with a buffer.
    public func reduceScatterSum(_ values: inout [Double], counts: [Int]) throws(CairnError) {
        try values.withUnsafeMutableBufferPointer { (buffer) throws(CairnError) in
            try reduceScatterSum(buffer, counts: counts)
        }
    }

    /// Copies the bytes of rank `root` to every other rank.
    public func broadcast(_ bytes: inout MutableRawSpan, from root: Int) throws(CairnError) {
        try bytes.withUnsafeMutableBytes { (buffer) throws(CairnError) in try broadcast(buffer, from: root) }
    }

    /// Copies the values of rank `root` to every other rank.
    public func broadcast(_ values: inout [Float], from root: Int) throws(CairnError) {
        try values.withUnsafeMutableBufferPointer { (buffer) throws(CairnError) in
            try broadcast(UnsafeMutableRawBufferPointer(buffer), from: root)
        }
    }

    /// Fills each rank's slice with what that rank has in its own; `counts` are bytes.
    public func allGather(_ bytes: inout MutableRawSpan, counts: [Int]) throws(CairnError) {
        try bytes.withUnsafeMutableBytes { (buffer) throws(CairnError) in try allGather(buffer, counts: counts) }
    }

    /// Fills each rank's slice with what that rank has in its own; `counts` are values.
    public func allGather(_ values: inout [Float], counts: [Int]) throws(CairnError) {
        let stride = MemoryLayout<Float>.stride
        // A count too large to be one in bytes cannot add up to the buffer; the call itself says so.
        let byteCounts = counts.map { $0.multiplied(checked: stride) ?? .max }
        try values.withUnsafeMutableBufferPointer { (buffer) throws(CairnError) in
            try allGather(UnsafeMutableRawBufferPointer(buffer), counts: byteCounts)
        }
    }

    /// The messages of all ranks, in rank order, on every rank. They may differ in length.
    public func allGather(message: [UInt8]) throws(CairnError) -> [[UInt8]] {
        var counts = [Int](repeating: 0, count: size)
        counts[rank] = message.count
        let width = MemoryLayout<Int>.stride
        try counts.withUnsafeMutableBufferPointer { (buffer) throws(CairnError) in
            try allGather(
                UnsafeMutableRawBufferPointer(buffer), counts: Array(repeating: width, count: size))
        }
        let begin = counts[..<rank].reduce(0, +)
        var bytes = [UInt8](repeating: 0, count: counts.reduce(0, +))
        bytes.replaceSubrange(begin..<begin + message.count, with: message)
        try bytes.withUnsafeMutableBufferPointer { (buffer) throws(CairnError) in
            try allGather(UnsafeMutableRawBufferPointer(buffer), counts: counts)
        }
        var messages: [[UInt8]] = []
        var end = 0
        for count in counts {
            messages.append(Array(bytes[end..<end + count]))
            end += count
        }
        return messages
    }

    /// Sends bytes to a rank of the group, without waiting for it to receive them.
    public func send(_ bytes: RawSpan, to rank: Int, tag: Int) throws(CairnError) {
        try bytes.withUnsafeBytes { (buffer) throws(CairnError) in try send(buffer, to: rank, tag: tag) }
    }

    /// Sends values to a rank of the group, without waiting for it to receive them.
    public func send(_ values: [Float], to rank: Int, tag: Int) throws(CairnError) {
        try send(values.span.bytes, to: rank, tag: tag)
    }

    /// Waits for the oldest message of `rank` with that tag, which must fill `bytes`.
    public func receive(_ bytes: inout MutableRawSpan, from rank: Int, tag: Int) throws(CairnError) {
        try bytes.withUnsafeMutableBytes { (buffer) throws(CairnError) in try receive(buffer, from: rank, tag: tag) }
    }

    /// Waits for the oldest message of `rank` with that tag, which must fill `values`.
    public func receive(_ values: inout [Float], from rank: Int, tag: Int) throws(CairnError) {
        try values.withUnsafeMutableBufferPointer { (buffer) throws(CairnError) in
            try receive(UnsafeMutableRawBufferPointer(buffer), from: rank, tag: tag)
        }
    }
}

/// Why a group of ranks ended: the cause of the errors that a failed ``Communicator`` throws.
public struct RankFailure: Error, Sendable, CustomStringConvertible {
    /// The rank that failed, as the whole job counts it.
    public let rank: Int
    /// What happened there.
    public let reason: CairnError

    package init(rank: Int, reason: CairnError) {
        self.rank = rank
        self.reason = reason
    }

    /// The error that every rank throws. One that reports the failure of another rank is passed on as it is.
    package var error: CairnError {
        if reason.cause is RankFailure { return reason }
        return CairnError(reason.code, "failed, and the group with it", CairnError.Context(rank: rank), cause: self)
    }

    public var description: String { reason.description }
}
