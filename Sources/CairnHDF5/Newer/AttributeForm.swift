import CairnBase

/// Where the parts of an attribute's message are. Source: HDF5 File Format Specification 3.0, IV.A.2.m.
struct AttributeForm {
    /// The type in its message.
    let type: Range<Int>
    /// Whether the type is elsewhere, and its place is in the message instead.
    let isTypeShared: Bool
    /// How long the message is with its elements; `nil` where that cannot be told from it alone.
    let byteCount: Int?

    /// - Returns: `nil` for an attribute that is damaged.
    init?(_ bytes: UnsafeRawBufferPointer) {
        guard let version = bytes.first, (1...3).contains(version), bytes.count >= 9,
            let nameByteCount = ObjectHeaderBlock.integer(bytes, 2, 2), nameByteCount > 0,
            let typeByteCount = ObjectHeaderBlock.integer(bytes, 4, 2),
            let shapeByteCount = ObjectHeaderBlock.integer(bytes, 6, 2)
        else { return nil }
        let isPadded = version == 1
        let header = version == 3 ? 9 : 8
        let start = header + (isPadded ? nameByteCount.roundedUpToEight : nameByteCount)
        let shape = start + (isPadded ? typeByteCount.roundedUpToEight : typeByteCount)
        let end = shape + (isPadded ? shapeByteCount.roundedUpToEight : shapeByteCount)
        guard end <= bytes.count, bytes[header + nameByteCount - 1] == 0 else { return nil }
        type = start..<start + typeByteCount
        // Types and shapes may be kept elsewhere; a place is then named instead.
        isTypeShared = !isPadded && bytes[1] & 1 != 0
        guard isPadded || bytes[1] & 2 == 0 else {
            byteCount = nil
            return
        }
        guard shapeByteCount >= 4, (1...2).contains(bytes[shape]), bytes[shape + 1] <= 32,
            case let dimensions = Int(bytes[shape + 1]), case let place = shape + (bytes[shape] == 1 ? 8 : 4),
            shapeByteCount >= place - shape + 8 * dimensions * (bytes[shape + 2] & 1 == 1 ? 2 : 1)
        else { return nil }
        guard !isTypeShared, let size = ObjectHeaderBlock.integer(bytes, start + 4, 4) else {
            byteCount = nil
            return
        }
        // Version 2 tells a null shape from one without dimensions.
        var elements: Int? = bytes[shape] == 2 && bytes[shape + 3] == 2 ? 0 : size
        for dimension in 0..<dimensions {
            let extent = ObjectHeaderBlock.integer(bytes, place + 8 * dimension, 8)
            elements = extent.flatMap { elements?.multiplied(checked: $0) }
        }
        byteCount = elements?.adding(checked: end)
    }
}
