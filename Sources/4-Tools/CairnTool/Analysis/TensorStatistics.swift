import CairnBase
import CairnCheckpoint
import CairnTensor

/// The distribution of a tensor's elements, gathered block by block.
///
/// Minimum and maximum are over everything but NaN, mean and standard deviation (of the whole population) over the finite
/// elements. Blocks are merged by the method of Chan, Golub and LeVeque (1979), which stays exact where a sum of squares would
/// cancel. They are computed in a unit in which neither squares of the largest doubles overflow nor those of the smallest
/// vanish.
struct TensorStatistics {
    private(set) var count = 0
    private(set) var nanCount = 0
    private(set) var infiniteCount = 0
    private(set) var zeroCount = 0
    private(set) var minimum = Double.infinity
    private(set) var maximum = -Double.infinity
    private var finiteCount = 0.0
    private var runningMean = 0.0
    private var squaredDistance = 0.0
    /// A power of two that the two above are in; `nil` before there was an element other than zero.
    private var unit: Double?

    /// `nil` when no element is finite.
    var mean: Double? { finiteCount > 0 ? runningMean * (unit ?? 1) : nil }
    /// `nil` when no element is finite.
    var standardDeviation: Double? {
        finiteCount > 0 ? (squaredDistance / finiteCount).squareRoot() * (unit ?? 1) : nil
    }
    /// `nil` when every element is NaN, or there is none.
    var range: (minimum: Double, maximum: Double)? { count > nanCount ? (minimum, maximum) : nil }

    /// Reads a tensor and gathers its statistics; `nil` for packed and complex types, which have none.
    ///
    /// - Parameter progress: called with the bytes of each block.
    /// - Throws: the reader's errors.
    static func gather(
        _ tensor: TensorDescription, from blocks: TensorBlocks, progress: (Int) -> Void
    ) throws -> TensorStatistics? {
        guard DoubleBlock.canHold(tensor.scalarType) else { return nil }
        var statistics = TensorStatistics()
        var values = DoubleBlock()
        for region in blocks.regions(of: tensor) {
            try blocks.withBlock(tensor, region) { bytes in
                try values.load(bytes, of: tensor.scalarType)
                statistics.add(values.values.span)
                progress(bytes.count)
            }
        }
        return statistics
    }

    /// Adds the elements of a block.
    mutating func add(_ block: Span<Double>) {
        let inverse = 1 / adopt(unitOf: block)
        var sum = 0.0
        var finite = 0, nans = 0, zeros = 0
        var low = minimum, high = maximum
        for index in block.indices {
            let value = block[index]
            if value.isFinite {
                sum += value * inverse
                finite += 1
            } else if value.isNaN {
                nans += 1
                continue
            }
            if value == 0 { zeros += 1 }
            if value < low { low = value }
            if value > high { high = value }
        }
        count += block.count
        nanCount += nans
        zeroCount += zeros
        infiniteCount += block.count - finite - nans
        minimum = low
        maximum = high
        guard finite > 0 else { return }
        let blockMean = sum / Double(finite)
        var squares = 0.0
        for index in block.indices where block[index].isFinite {
            let distance = block[index] * inverse - blockMean
            squares += distance * distance
        }
        let total = finiteCount + Double(finite)
        let shift = blockMean - runningMean
        squaredDistance += squares + shift * shift * finiteCount * Double(finite) / total
        runningMean += shift * Double(finite) / total
        finiteCount = total
    }

    /// Goes over to the unit that a block needs if that is larger, and returns it.
    private mutating func adopt(unitOf block: Span<Double>) -> Double {
        var greatest = 0.0
        for index in block.indices {
            let magnitude = abs(block[index])
            if magnitude > greatest, magnitude.isFinite { greatest = magnitude }
        }
        guard greatest > 0 else { return unit ?? 1 }
        let wanted = greatest > 0x1p500 ? 0x1p600 : greatest < 0x1p-400 ? 0x1p-600 : 1
        let before = unit ?? wanted, after = max(before, wanted)
        if after != before {
            let ratio = before / after
            runningMean *= ratio
            squaredDistance = squaredDistance * ratio * ratio
        }
        unit = after
        return after
    }
}

/// Reads tensors block by block into the same memory, however large they are.
final class TensorBlocks {
    private let reader: any CheckpointReader
    private let byteLimit: Int
    private var buffer: UnsafeMutableRawBufferPointer

    /// - Parameter byteLimit: the most bytes of a block, where the tensor's shape allows.
    init(_ reader: any CheckpointReader, byteLimit: Int = 4 << 20) {
        self.reader = reader
        self.byteLimit = byteLimit
        buffer = .allocate(byteCount: 0, alignment: 64)
    }

    deinit { buffer.deallocate() }

    /// The regions of a tensor that are read in turn, in the order of its elements.
    func regions(of tensor: TensorDescription) -> SlabSequence { SlabSequence(of: tensor, byteLimit: byteLimit) }

    /// Reads one region and hands its bytes to `body`.
    ///
    /// - Throws: the reader's errors and those of `body`.
    func withBlock(
        _ tensor: TensorDescription, _ region: Region, _ body: (UnsafeRawBufferPointer) throws -> Void
    ) throws {
        let byteCount = tensor.scalarType.byteCount(elementCount: region.elementCount) ?? 0
        if buffer.count < byteCount {
            buffer.deallocate()
            buffer = .allocate(byteCount: byteCount, alignment: 64)
        }
        let part = UnsafeMutableRawBufferPointer(rebasing: buffer[..<byteCount])
        var destination = part.mutableBytes
        try reader.read(tensor.name, region: region, into: &destination)
        try body(UnsafeRawBufferPointer(part))
    }
}

/// Elements of any numeric type as doubles, in memory that is used again.
struct DoubleBlock {
    private(set) var values: [Double] = []

    /// Whether elements of this type have a value as a double.
    static func canHold(_ scalarType: ScalarType) -> Bool {
        ScalarConversion.isSupported(from: scalarType, to: .f64)
    }

    /// Replaces the values by those of `bytes`. Integers beyond 2^53 are rounded.
    ///
    /// - Throws: ``CairnError/Code/unsupported`` for packed and complex types.
    mutating func load(_ bytes: UnsafeRawBufferPointer, of scalarType: ScalarType) throws(CairnError) {
        let count = bytes.count / (scalarType.byteWidth ?? 1)
        if values.count != count { values = [Double](repeating: 0, count: count) }
        var span = values.mutableSpan
        var destination = span.mutableBytes
        try ScalarConversion.convert(bytes.bytes, from: scalarType, into: &destination, to: .f64)
    }
}

extension Shape {
    /// The indices in each dimension of an element counted row-major.
    func indices(ofElement element: Int) -> [Int] {
        var rest = element
        return strides.map { stride in
            defer { rest %= stride }
            return rest / stride
        }
    }
}
