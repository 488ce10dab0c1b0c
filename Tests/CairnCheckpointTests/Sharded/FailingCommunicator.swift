import CairnBase
import CairnCommunication
import Synchronization

/// A communicator of which one call fails, and the group with it.
final class FailingCommunicator: Communicator {
    private let base: any Communicator
    private let failingCall: Int
    private let callCount = Atomic(0)

    /// - Parameter failingCall: The number of the call that fails, from 0.
    init(_ base: any Communicator, failingCall: Int) {
        self.base = base
        self.failingCall = failingCall
    }

    var rank: Int { base.rank }
    var size: Int { base.size }

    private func count() {
        guard callCount.add(1, ordering: .relaxed).oldValue == failingCall else { return }
        base.fail(CairnError(.inputOutput, "the cable is out"))
    }

    func barrier() throws(CairnError) {
        count()
        try base.barrier()
    }
    func broadcast(_ buffer: UnsafeMutableRawBufferPointer, from root: Int) throws(CairnError) {
        count()
        try base.broadcast(buffer, from: root)
    }
    func allReduceSum(_ values: UnsafeMutableBufferPointer<Float>) throws(CairnError) {
        count()
        try base.allReduceSum(values)
    }
    func allReduceSum(_ values: UnsafeMutableBufferPointer<Double>) throws(CairnError) {
        count()
        try base.allReduceSum(values)
    }
    func reduceScatterSum(_ values: UnsafeMutableBufferPointer<Float>, counts: [Int]) throws(CairnError) {
        count()
        try base.reduceScatterSum(values, counts: counts)
    }
    func reduceScatterSum(_ values: UnsafeMutableBufferPointer<Double>, counts: [Int]) throws(CairnError) {
        count()
        try base.reduceScatterSum(values, counts: counts)
    }
    func allGather(_ buffer: UnsafeMutableRawBufferPointer, counts: [Int]) throws(CairnError) {
        count()
        try base.allGather(buffer, counts: counts)
    }
    func gather(_ message: [UInt8], at root: Int) throws(CairnError) -> [[UInt8]]? {
        count()
        return try base.gather(message, at: root)
    }
    func broadcast(message: [UInt8]?, from root: Int) throws(CairnError) -> [UInt8] {
        count()
        return try base.broadcast(message: message, from: root)
    }
    func send(_ buffer: UnsafeRawBufferPointer, to rank: Int, tag: Int) throws(CairnError) {
        count()
        try base.send(buffer, to: rank, tag: tag)
    }
    func receive(_ buffer: UnsafeMutableRawBufferPointer, from rank: Int, tag: Int) throws(CairnError) {
        count()
        try base.receive(buffer, from: rank, tag: tag)
    }
    func split(color: Int, key: Int) throws(CairnError) -> any Communicator {
        count()
        return try base.split(color: color, key: key)
    }
    func fail(_ error: CairnError) { base.fail(error) }
}
