import CairnBase
import CairnInterop

/// The filters that a dataset's chunks went through, in the order of writing.
struct ChunkFilters: Sendable {
    struct Filter: Sendable {
        var id: Int32
        var parameters: [UInt32]
    }

    static let deflate: Int32 = 1, shuffle: Int32 = 2, fletcher32: Int32 = 3, szip: Int32 = 4, nbit: Int32 = 5
    static let scaleOffset: Int32 = 6, lzf: Int32 = 32000

    let filters: [Filter]

    /// Filters that others registered, by the names that their users know.
    private static let names: [Int32: String] = [
        305: "LZO", 307: "bzip2", 32001: "Blosc", 32004: "LZ4", 32005: "APAX", 32006: "CBF", 32007: "JPEG-XR",
        32008: "bitshuffle", 32009: "SPDP", 32010: "LPC-Rice", 32011: "CCSDS-123", 32012: "JPEG-LS", 32013: "ZFP",
        32014: "FPZip", 32015: "Zstandard", 32016: "B3D", 32017: "SZ", 32018: "FCIDECOMP", 32019: "JPEG",
        32022: "granular BitRound", 32023: "BitGroom", 32024: "SZ3", 32026: "Blosc2", 32028: "SPERR",
    ]

    /// The message for chunks that went through an unknown filter.
    static func unknown(_ id: Int32) -> String {
        let name = names[id].map { " (\($0))" } ?? ""
        return "its chunks went through filter \(id)\(name), which is not known: write it anew with h5repack -f GZIP=4 where "
            + "HDF5 has the filter's plugin, or with h5py and hdf5plugin"
    }

    /// Whether all of them are undone here. HDF5's own DEFLATE has no limit on what it expands to; ours has.
    var areKnown: Bool {
        let compressions = filters.count { [Self.deflate, Self.lzf, Self.scaleOffset].contains($0.id) }
        return compressions <= 1
            && filters.allSatisfy { filter in
                switch filter.id {
                case Self.deflate, Self.shuffle, Self.fletcher32, Self.lzf: true
                case Self.scaleOffset: ScaleOffset(filter.parameters) != nil
                default: false
                }
            }
    }

    /// The most bytes that a chunk of `byteCount` bytes may have when it is stored: what cannot be compressed grows a
    /// little.
    static func greatestStoredByteCount(_ byteCount: Int) -> Int {
        byteCount + byteCount / 8 + 4096
    }

    /// Undoes the filters.
    ///
    /// - Parameter mask: A set bit for each filter that was left out for this chunk.
    /// - Throws: ``CairnError/Code/corrupted`` when the chunk cannot have come from `byteCount` bytes.
    func undo(_ stored: [UInt8], mask: UInt32, byteCount: Int) throws(CairnError) -> [UInt8] {
        let used = filters.enumerated().filter { $0.offset >= 32 || mask & (1 << UInt32($0.offset)) == 0 }.map(
            \.element)
        var bytes = stored
        for (position, filter) in used.enumerated().reversed() {
            // What a filter was given has the chunk's size and a checksum for each one taken before.
            let before = byteCount + 4 * used[..<position].count { $0.id == Self.fletcher32 }
            switch filter.id {
            case Self.deflate:
                guard let expanded = Inflation.expandZlib(bytes, byteCount: before) else {
                    throw Self.damaged("its DEFLATE data is damaged or of another size", expected: before)
                }
                bytes = expanded
            case Self.lzf:
                guard let expanded = LZF.expand(bytes, byteCount: before) else {
                    throw Self.damaged("its LZF data is damaged or of another size", expected: before)
                }
                bytes = expanded
            case Self.scaleOffset:
                guard let expanded = ScaleOffset(filter.parameters)?.expand(bytes, byteCount: before) else {
                    throw Self.damaged("its scale-offset data is damaged or of another size", expected: before)
                }
                bytes = expanded
            case Self.shuffle: bytes = Self.unshuffled(bytes, width: Int(filter.parameters.first ?? 1))
            case Self.fletcher32:
                guard bytes.count >= 4 else { throw Self.damaged("it is shorter than its checksum", expected: 4) }
                let sum = bytes.suffix(4).reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
                bytes.removeLast(4)
                let found = Fletcher32.checksum(bytes)
                // HDF5 1.6.2 wrote the bytes of each half in the other order.
                let swapped = (found & 0x00FF_00FF) << 8 | (found >> 8) & 0x00FF_00FF
                guard sum == found || sum == swapped else {
                    throw CairnError(
                        .corrupted, "a chunk's Fletcher-32 checksum differs: its bytes were changed",
                        .init(expected: String(sum, radix: 16), found: String(found, radix: 16)))
                }
            default:
                throw CairnError(.unsupported, "a chunk went through an unknown filter", .init(found: "\(filter.id)"))
            }
        }
        guard bytes.count == byteCount else { throw Self.damaged("it has another size", expected: byteCount) }
        return bytes
    }

    private static func damaged(_ reason: String, expected: Int) -> CairnError {
        CairnError(.corrupted, "a chunk is damaged: \(reason)", .init(expected: "\(expected) bytes"))
    }

    /// Puts the bytes of each element together again.
    private static func unshuffled(_ bytes: [UInt8], width: Int) -> [UInt8] {
        let count = width > 0 ? bytes.count / width : 0
        guard width > 1, count > 1 else { return bytes }
        // What does not fill an element stays at the end.
        var result = bytes
        bytes.withUnsafeBufferPointer { source in
            result.withUnsafeMutableBufferPointer { target in
                for byte in 0..<width {
                    let plane = byte * count
                    for element in 0..<count { target[element * width + byte] = source[plane + element] }
                }
            }
        }
        return result
    }
}

/// The checksum of HDF5's filter of that name: Fletcher's over big-endian 16-bit words, modulo 65535.
enum Fletcher32 {
    static func checksum(_ bytes: [UInt8]) -> UInt32 {
        var first: UInt32 = 0
        var second: UInt32 = 0
        bytes.withUnsafeBufferPointer { bytes in
            var position = 0
            var words = bytes.count / 2
            while words > 0 {
                // So many words cannot overflow the sums.
                let block = min(words, 360)
                words -= block
                for _ in 0..<block {
                    first &+= UInt32(bytes[position]) << 8 | UInt32(bytes[position + 1])
                    second &+= first
                    position += 2
                }
                first = (first & 0xFFFF) + (first >> 16)
                second = (second & 0xFFFF) + (second >> 16)
            }
            if bytes.count % 2 == 1 {
                first &+= UInt32(bytes[position]) << 8
                second &+= first
                first = (first & 0xFFFF) + (first >> 16)
                second = (second & 0xFFFF) + (second >> 16)
            }
        }
        first = (first & 0xFFFF) + (first >> 16)
        second = (second & 0xFFFF) + (second >> 16)
        return second << 16 | first
    }
}

/// Marc Lehmann's LZF, which h5py brings along.
enum LZF {
    /// The expanded bytes, or `nil` when the data is damaged or expands to another size than `byteCount`.
    static func expand(_ source: [UInt8], byteCount: Int) -> [UInt8]? {
        // Three bytes make at most 264.
        guard byteCount / 88 <= source.count + 1 else { return nil }
        var result: [UInt8] = []
        result.reserveCapacity(byteCount)
        var position = 0
        while position < source.count {
            let control = Int(source[position])
            position += 1
            if control < 32 {
                let count = control + 1
                guard position + count <= source.count, result.count + count <= byteCount else { return nil }
                result += source[position..<position + count]
                position += count
                continue
            }
            var count = control >> 5
            if count == 7 {
                guard position < source.count else { return nil }
                count += Int(source[position])
                position += 1
            }
            count += 2
            guard position < source.count else { return nil }
            let distance = ((control & 31) << 8) + Int(source[position]) + 1
            position += 1
            guard distance <= result.count, result.count + count <= byteCount else { return nil }
            // One by one: what is copied may reach into what is being made.
            for _ in 0..<count { result.append(result[result.count - distance]) }
        }
        return result.count == byteCount ? result : nil
    }
}

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
