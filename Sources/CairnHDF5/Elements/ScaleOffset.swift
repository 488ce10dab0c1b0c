import CairnBase

/// HDF5's filter for integers of a small range: the least one, and what the others have beyond it in few bits.
///
/// Source: `H5Zscaleoffset.c` of HDF5 1.10.
struct ScaleOffset {
    private let count: Int
    private let width: Int
    private let isBigEndian: Bool
    /// What marks elements that were never written, as bits of an element; `nil` without a fill value.
    private let fill: UInt64?

    private static let headerByteCount = 21

    /// - Parameter parameters: Of the filter. `nil` for floating-point numbers, whose rounding is left to HDF5, and for
    ///   parameters that contradict each other.
    init?(_ parameters: [UInt32]) {
        // Kind, factor, elements of a chunk, class, size, sign, order, whether there is a fill value, its words.
        guard parameters.count == 20, parameters[0] == 2, parameters[3] == 0, [1, 2, 4, 8].contains(parameters[4]),
            parameters[6] <= 1
        else { return nil }
        count = Int(parameters[2])
        width = Int(parameters[4])
        isBigEndian = parameters[6] == 1
        let word = UInt64(parameters[8]) | UInt64(parameters[9]) << 32
        fill = parameters[7] == 1 ? word : nil
    }

    /// The elements as they are stored without the filter, or `nil` when the data is damaged or of another size.
    func expand(_ source: [UInt8], byteCount: Int) -> [UInt8]? {
        guard count.multiplied(checked: width) == byteCount, source.count >= Self.headerByteCount else { return nil }
        let fields = ByteFields(source)
        guard let bits = fields.integer(0, 4), bits <= width * 8, source[4] <= 8 else { return nil }
        let least = (0..<Int(source[4])).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64(source[5 + $1]) }
        let data = source[Self.headerByteCount...]
        var result = [UInt8](repeating: 0, count: byteCount)
        if bits == width * 8 {
            guard data.count >= byteCount else { return nil }
            result.replaceSubrange(0..<byteCount, with: data.prefix(byteCount))
            if isBigEndian, width > 1 {
                for begin in stride(from: 0, to: byteCount, by: width) { result[begin..<begin + width].reverse() }
            }
            return result
        }
        guard let bitCount = count.multiplied(checked: bits), bitCount.dividedRoundingUp(by: 8) <= data.count else {
            return nil
        }
        let marker = bits == 0 ? 0 : UInt64.max >> UInt64(64 - bits)
        var position = 0
        for element in 0..<count {
            var value: UInt64 = 0
            var missing = bits
            while missing > 0 {
                let (byte, used) = position.quotientAndRemainder(dividingBy: 8)
                let taken = min(missing, 8 - used)
                let part =
                    (data[data.startIndex + byte] >> UInt8(8 - used - taken))
                    & UInt8(truncatingIfNeeded: (1 << taken) - 1)
                value = value << UInt64(taken) | UInt64(part)
                position += taken
                missing -= taken
            }
            let number = fill.flatMap { value == marker ? $0 : nil } ?? (value &+ least)
            for byte in 0..<width {
                let target = isBigEndian ? width - 1 - byte : byte
                result[element * width + target] = UInt8(truncatingIfNeeded: number >> UInt64(byte * 8))
            }
        }
        return result
    }
}
