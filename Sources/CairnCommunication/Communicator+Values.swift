public import CairnBase

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
