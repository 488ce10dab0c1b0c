import CairnBase
import CairnCheckpoint
import CairnTensor

/// What two checkpoints have in common and what not.
struct CheckpointComparison {
    /// A tensor that both have and that is not the same.
    struct DifferingTensor {
        var first: TensorDescription
        var second: TensorDescription
        /// The difference of the elements; `nil` when the shapes differ or the types cannot be compared.
        var elements: TensorDifference?
    }

    /// A value that both have and that is not the same.
    struct DifferingValue {
        var name: String
        var first: Value
        var second: Value
    }

    let tolerance: Double?
    let ignoresType: Bool
    private(set) var tensorsOnlyInFirst: [String] = []
    private(set) var tensorsOnlyInSecond: [String] = []
    private(set) var differingTensors: [DifferingTensor] = []
    private(set) var equalTensorCount = 0
    private(set) var valuesOnlyInFirst: [String] = []
    private(set) var valuesOnlyInSecond: [String] = []
    private(set) var differingValues: [DifferingValue] = []
    private(set) var equalValueCount = 0

    init(tolerance: Double?, ignoresType: Bool) {
        self.tolerance = tolerance
        self.ignoresType = ignoresType
    }

    /// Whether nothing differs.
    var isEqual: Bool {
        tensorsOnlyInFirst.isEmpty && tensorsOnlyInSecond.isEmpty && differingTensors.isEmpty
            && valuesOnlyInFirst.isEmpty && valuesOnlyInSecond.isEmpty && differingValues.isEmpty
    }

    /// Compares everything whose name is meant.
    ///
    /// - Parameter progress: called with the bytes just compared.
    /// - Throws: the readers' errors.
    mutating func compare(
        _ first: any CheckpointReader, _ second: any CheckpointReader, where isMeant: (String) -> Bool,
        progress: (Int) -> Void
    ) throws {
        var pairs: [(TensorDescription, TensorDescription)] = []
        Self.merge(
            first.tensors.filter { isMeant($0.name) }, second.tensors.filter { isMeant($0.name) }, name: \.name
        ) { left, right in
            switch (left, right) {
            case (let left?, let right?): pairs.append((left, right))
            case (let left?, nil): tensorsOnlyInFirst.append(left.name)
            case (nil, let right?): tensorsOnlyInSecond.append(right.name)
            case (nil, nil): break
            }
        }
        Self.merge(
            try Self.values(of: first, where: isMeant), try Self.values(of: second, where: isMeant), name: \.name
        ) { left, right in
            switch (left, right) {
            case (let left?, let right?) where left.value == right.value: equalValueCount += 1
            case (let left?, let right?):
                differingValues.append(.init(name: left.name, first: left.value, second: right.value))
            case (let left?, nil): valuesOnlyInFirst.append(left.name)
            case (nil, let right?): valuesOnlyInSecond.append(right.name)
            case (nil, nil): break
            }
        }
        let firstBlocks = TensorBlocks(first), secondBlocks = TensorBlocks(second)
        for (left, right) in pairs {
            try compare((left, firstBlocks), (right, secondBlocks), progress: progress)
        }
    }

    private mutating func compare(
        _ left: (tensor: TensorDescription, blocks: TensorBlocks),
        _ right: (tensor: TensorDescription, blocks: TensorBlocks), progress: (Int) -> Void
    ) throws {
        let sameType = left.tensor.scalarType == right.tensor.scalarType
        let numeric = DoubleBlock.canHold(left.tensor.scalarType) && DoubleBlock.canHold(right.tensor.scalarType)
        var elements: TensorDifference?
        if left.tensor.shape == right.tensor.shape, sameType || numeric {
            elements = try TensorDifference.gather(left, right, tolerance: tolerance, progress: progress)
        }
        // Types that cannot be compared differ, whatever is ignored.
        if elements?.differingCount == 0, sameType || ignoresType {
            equalTensorCount += 1
        } else {
            differingTensors.append(.init(first: left.tensor, second: right.tensor, elements: elements))
        }
    }

    /// The values that are meant; those of single ranks by the place of the rank and their name.
    private static func values(
        of reader: any CheckpointReader, where isMeant: (String) -> Bool
    ) throws -> [NamedValue] {
        var values = reader.values.filter { isMeant($0.name) }
        for of in try reader.rankValues() {
            values += of.values.filter { isMeant($0.name) }
                .map { NamedValue(name: "\(of.location): \($0.name)", value: $0.value) }
        }
        return values.sorted { ExactString($0.name) < ExactString($1.name) }
    }

    /// Walks two lists sorted by the bytes of the names side by side.
    private static func merge<Element>(
        _ first: [Element], _ second: [Element], name: (Element) -> String, _ visit: (Element?, Element?) -> Void
    ) {
        var left = first[...], right = second[...]
        while !(left.isEmpty && right.isEmpty) {
            let order: (ExactString, ExactString)? = left.first.flatMap { one in
                right.first.map { (ExactString(name(one)), ExactString(name($0))) }
            }
            if let order, order.0 == order.1 {
                visit(left.popFirst(), right.popFirst())
            } else if order.map({ $0.0 < $0.1 }) ?? !left.isEmpty {
                visit(left.popFirst(), nil)
            } else {
                visit(nil, right.popFirst())
            }
        }
    }
}

/// By how much two tensors of one shape differ, gathered block by block.
///
/// Without a tolerance elements are equal when their bits are (their values, where the types differ). With one, when they are
/// no further apart than that: the zeros are then equal, and so is NaN to NaN.
struct TensorDifference {
    let tolerance: Double?
    private(set) var count = 0
    /// How many elements differ.
    private(set) var differingCount = 0
    /// The first element that differs, counted row-major.
    private(set) var firstIndex: Int?
    /// The greatest distance between finite elements that differ; `nil` when there are none, or they are not numbers.
    private(set) var greatestAbsolute: Double?
    /// The greatest distance in proportion to the larger magnitude of the two.
    private(set) var greatestRelative: Double?
    /// How many pairs that differ have a NaN or an infinity.
    private(set) var nonFiniteCount = 0

    init(tolerance: Double?) { self.tolerance = tolerance }

    /// Reads both tensors and compares them; they must have the same shape.
    ///
    /// - Parameter progress: called with the bytes of each block.
    /// - Throws: the readers' errors, ``CairnError/Code/unsupported`` when the types differ and cannot be converted.
    static func gather(
        _ left: (tensor: TensorDescription, blocks: TensorBlocks),
        _ right: (tensor: TensorDescription, blocks: TensorBlocks), tolerance: Double?, progress: (Int) -> Void
    ) throws -> TensorDifference {
        var difference = TensorDifference(tolerance: tolerance)
        var leftValues = DoubleBlock(), rightValues = DoubleBlock()
        let sameType = left.tensor.scalarType == right.tensor.scalarType
        let numeric = DoubleBlock.canHold(left.tensor.scalarType) && DoubleBlock.canHold(right.tensor.scalarType)
        // One side's blocks decide for both, so that the regions agree where the types do not.
        for region in left.blocks.regions(of: left.tensor) {
            try left.blocks.withBlock(left.tensor, region) { first in
                try right.blocks.withBlock(right.tensor, region) { second in
                    progress(first.count)
                    if sameType, first.count == second.count, first.elementsEqual(second) {
                        difference.count += region.elementCount
                        return
                    }
                    guard numeric else {
                        difference.addBits(first, second, of: left.tensor.scalarType, count: region.elementCount)
                        return
                    }
                    if sameType, let isSigned = left.tensor.scalarType.isSignedLongInteger {
                        difference.addIntegers(first, second, isSigned: isSigned)
                        return
                    }
                    try leftValues.load(first, of: left.tensor.scalarType)
                    try rightValues.load(second, of: right.tensor.scalarType)
                    difference.add(
                        leftValues.values.span, rightValues.values.span,
                        bits: sameType && tolerance == nil ? (first, second) : nil)
                }
            }
        }
        return difference
    }

    private mutating func add(
        _ left: Span<Double>, _ right: Span<Double>, bits: (UnsafeRawBufferPointer, UnsafeRawBufferPointer)?
    ) {
        let width = bits.map { $0.0.count / max(1, left.count) } ?? 0
        for index in left.indices {
            let first = left[index], second = right[index]
            let distance = abs(first - second)
            let equal: Bool
            if let bits {
                let range = index * width..<(index + 1) * width
                equal = bits.0[range].elementsEqual(bits.1[range])
            } else {
                equal = first == second || distance <= tolerance ?? 0 || (first.isNaN && second.isNaN)
            }
            if equal { continue }
            note(index: count + index)
            guard first.isFinite, second.isFinite else {
                nonFiniteCount += 1
                continue
            }
            greatestAbsolute = max(greatestAbsolute ?? 0, distance)
            let magnitude = max(abs(first), abs(second))
            greatestRelative = max(greatestRelative ?? 0, magnitude > 0 ? distance / magnitude : 0)
        }
        count += left.count
    }

    /// Compares integers of 64 bits, whose distances doubles would round away.
    private mutating func addIntegers(
        _ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer, isSigned: Bool
    ) {
        // Two's complement with the sign's bit flipped is in the order of the numbers.
        let flip: UInt64 = isSigned ? 1 << 63 : 0
        func number(_ bits: UInt64) -> Double { isSigned ? Double(Int64(bitPattern: bits)) : Double(bits) }
        for index in 0..<left.count / 8 {
            let first = UInt64(littleEndian: left.loadUnaligned(fromByteOffset: 8 * index, as: UInt64.self))
            let second = UInt64(littleEndian: right.loadUnaligned(fromByteOffset: 8 * index, as: UInt64.self))
            let (one, other) = (first ^ flip, second ^ flip)
            let distance = Double(one > other ? one - other : other - one)
            if distance == 0 || distance <= tolerance ?? 0 { continue }
            note(index: count + index)
            greatestAbsolute = max(greatestAbsolute ?? 0, distance)
            greatestRelative = max(greatestRelative ?? 0, distance / max(abs(number(first)), abs(number(second))))
        }
        count += left.count / 8
    }

    /// Compares elements that are not numbers or not whole bytes by their bits.
    private mutating func addBits(
        _ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer, of scalarType: ScalarType, count added: Int
    ) {
        let width = scalarType.bitWidth
        for index in 0..<added {
            let bits = index * width..<(index + 1) * width
            let isEqual = bits.allSatisfy { bit in
                let mask = UInt8(1) << UInt8(bit % 8)
                return left[bit / 8] & mask == right[bit / 8] & mask
            }
            if !isEqual { note(index: count + index) }
        }
        count += added
    }

    private mutating func note(index: Int) {
        differingCount += 1
        if firstIndex == nil { firstIndex = index }
    }
}

extension ScalarType {
    /// Whether it is a signed or an unsigned integer of 64 bits; `nil` for other types.
    fileprivate var isSignedLongInteger: Bool? {
        switch self {
        case .i64: true
        case .u64: false
        default: nil
        }
    }
}
