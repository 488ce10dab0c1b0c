package import CairnBase
package import CairnTensor

/// Where each fragment of a rank file goes, decided before a byte is written.
struct RankFilePlan: Sendable {
    /// A request, by its index, and the place that it gets.
    struct Item: Sendable {
        var request: Int
        var stored: StoredFragment
    }

    /// In the order of the file. Those stored as they are come first: the ones that are multiples of ``dataAlignment`` long,
    /// so that each begins at one and goes to the disk as it lies in memory; then the others. In both groups the widest
    /// elements come first, so that all are aligned to their elements. Then those that are compressed, whose places are
    /// known only after the ones before them.
    var items: [Item] = []
    /// How many of the items, from the first on, are stored as they are.
    var rawCount = 0
    /// The bytes of the data that are stored as they are.
    var rawByteCount: Int { items.prefix(rawCount).last?.stored.byteRange.upperBound ?? 0 }
    /// The most bytes of data that there can be.
    var dataByteCount: Int { items.last?.stored.byteRange.upperBound ?? 0 }
    /// The bytes of the header, with room for the longest that it can become.
    var headerByteCount = 0

    /// Data begins at a multiple of this, for direct I/O and mapping.
    static let dataAlignment = 4096

    /// - Throws: ``CairnError/Code/invalidArgument`` when sizes overflow or the header would be too long for the format.
    init(_ requests: [FragmentRequest], metadata: RankFileMetadata) throws(CairnError) {
        let names = requests.map { ExactString($0.name) }
        var byteCounts: [Int] = []
        for request in requests { byteCounts.append(try Tensor.byteCount(request.scalarType, request.region.shape)) }
        let fillsPages = byteCounts.map { $0 % Self.dataAlignment == 0 }
        let order = requests.indices.sorted { left, right in
            let (first, second) = (requests[left], requests[right])
            if (first.codec == .raw) != (second.codec == .raw) { return first.codec == .raw }
            if first.codec == .raw {
                if fillsPages[left] != fillsPages[right] { return fillsPages[left] }
                let widths = (first.scalarType.bitWidth, second.scalarType.bitWidth)
                if widths.0 != widths.1 { return widths.0 > widths.1 }
            }
            if names[left] != names[right] { return names[left] < names[right] }
            return first.region.offsets.lexicographicallyPrecedes(second.region.offsets)
        }
        var offset = 0
        var keys = FragmentKeys(names)
        for index in order {
            let request = requests[index]
            let byteCount = byteCounts[index]
            guard let end = offset.adding(checked: byteCount) else {
                throw CairnError(.invalidArgument, "the fragments of a rank are too large for one file")
            }
            // The stored length of a chunk never exceeds its own, so this place is the last that it can get.
            items.append(
                Item(
                    request: index,
                    stored: StoredFragment(
                        key: keys.next(names[index]), name: request.name, scalarType: request.scalarType,
                        globalShape: request.globalShape, region: request.region, codec: request.codec,
                        byteRange: offset..<end,
                        chunks: [StoredChunk](
                            repeating: StoredChunk(offset: 0, byteCount: 0, checksum: 0),
                            count: byteCount.dividedRoundingUp(by: metadata.chunkByteCount)))))
            if request.codec == .raw { rawCount += 1 }
            offset = end
        }
        headerByteCount = try Self.header(items.map(\.stored), metadata, minimumByteCount: 0).count
    }

    /// The header for fragments whose places and chunks are known.
    static func header(
        _ fragments: [StoredFragment], _ metadata: RankFileMetadata, minimumByteCount: Int
    ) throws(CairnError) -> [UInt8] {
        let entries = fragments.map { fragment in
            SafeTensorsHeader.Entry(
                name: fragment.key, scalarType: fragment.codec == .raw ? fragment.scalarType : .u8,
                shape: fragment.codec == .raw ? fragment.region.shape : [fragment.byteRange.count],
                byteRange: fragment.byteRange)
        }
        let header = SafeTensorsHeader(entries: entries, metadata: try metadata.entries(describing: fragments))
        return try header.serialized(alignment: dataAlignment, minimumByteCount: minimumByteCount)
    }
}

/// Names for fragments in a file: the tensor's own for its first fragment, then `name@1`, `name@2`, …
private struct FragmentKeys {
    private let taken: Set<ExactString>
    private var used: Set<ExactString> = []
    private var copies: [ExactString: Int] = [:]

    init(_ names: [ExactString]) { taken = Set(names) }

    mutating func next(_ name: ExactString) -> String {
        if used.insert(name).inserted { return name.string }
        while true {
            let copy = copies[name, default: 0] + 1
            copies[name] = copy
            let key = ExactString("\(name.string)@\(copy)")
            if !taken.contains(key), used.insert(key).inserted { return key.string }
        }
    }
}

/// Whether and how tensors are compressed.
public struct Compression: Sendable, Hashable {
    private enum Method: Sendable, Hashable {
        case none, fast
        case zstd(level: Int)
    }

    private let method: Method

    /// Bytes as they are: saving and loading at the speed of the storage, and mapped loads.
    public static let none = Compression(method: .none)

    /// The exponents of floats apart and as Huffman codes, the rest as it is: for weights.
    ///
    /// BF16 weights take about two thirds of their size and F32 weights five sixths, a little less than with ``zstd(level:)``.
    /// Chunks are compressed two to three times as fast as at zstd's level 1, and expanded 1.3 to 1.5 times as fast; a save to
    /// a fast disk takes a third of the time (Docs/Benchmarks.md).
    /// Choose ``zstd(level:)`` for data with repeats, such as tables of integers, text in bytes, or masks: what occurs
    /// twice is not noticed here.
    public static let fast = Compression(method: .fast)

    /// Byte planes and zstd at `level` (1 to 19), for tensors and chunks where that saves space.
    public static func zstd(level: Int = 3) -> Compression { Compression(method: .zstd(level: min(19, max(1, level)))) }

    private init(method: Method) { self.method = method }
}

/// A fragment that a rank file is to hold: all that is known of it before its bytes.
package struct FragmentRequest: Sendable {
    /// The fully-qualified name of the whole tensor.
    package var name: String
    package var scalarType: ScalarType
    package var globalShape: Shape
    /// The part of the whole tensor that the fragment is.
    package var region: Region
    package var codec: ChunkCodec

    package init(
        name: String, scalarType: ScalarType, globalShape: Shape, region: Region, codec: ChunkCodec = .raw
    ) {
        self.name = name
        self.scalarType = scalarType
        self.globalShape = globalShape
        self.region = region
        self.codec = codec
    }
}

extension Compression {
    /// zstd's level, for the codec that has one.
    var level: Int {
        if case .zstd(let level) = method { return level }
        return 1
    }

    private var codec: ChunkCodec {
        switch method {
        case .none: .raw
        case .fast: .exponentPlanes
        case .zstd: .zstdPlanes
        }
    }

    /// Which bytes of a fragment tell whether it is worth compressing: a chunk from its middle. `nil` when it is not, whatever
    /// they are.
    package func sampleRange(byteCount: Int, chunkByteCount: Int) -> Range<Int>? {
        guard codec != .raw, byteCount >= Self.leastByteCount else { return nil }
        let middle = byteCount / 2 / chunkByteCount * chunkByteCount
        return middle..<min(byteCount, middle + chunkByteCount)
    }

    /// How a fragment is stored whose bytes are not there yet. Chunks that do not get smaller stay as they are.
    package func codec(ofStreamed byteCount: Int) -> ChunkCodec { byteCount < Self.leastByteCount ? .raw : codec }

    private static var leastByteCount: Int { 1024 }

    /// How a fragment is best stored, judged by that sample.
    package func codec(sample: RawSpan, _ scalarType: ScalarType) -> ChunkCodec {
        let isWorthwhile = sample.withUnsafeBytes { sample in
            switch codec {
            case .raw: return false
            case .exponentPlanes: return ExponentPlanes.isWorthwhile(sample, scalarType)
            case .zstdPlanes:
                let memory = RunMemory(byteCount: sample.count)
                return ChunkWorkspace.with {
                    ChunkCompression.compress(sample, scalarType, codec, level: level, into: memory.bytes, $0) != nil
                }
            }
        }
        return isWorthwhile ? codec : .raw
    }
}

/// The piece of a tensor that one rank holds.
package struct TensorFragment: Sendable {
    /// The fully-qualified name of the whole tensor.
    package let name: String
    /// The shape of the whole tensor.
    package let globalShape: Shape
    /// The part of it that this is.
    package let region: Region
    /// The elements: its shape is the region's.
    package let tensor: Tensor

    /// - Throws: ``CairnError/Code/mismatch`` when the region lies outside the tensor or has another shape than `tensor`.
    package init(name: String, globalShape: Shape, region: Region, tensor: Tensor) throws(CairnError) {
        guard region.isInside(globalShape), region.shape == tensor.shape else {
            throw CairnError(
                .mismatch, "a fragment does not fit its tensor",
                .init(tensor: name, expected: "\(region) inside \(globalShape)", found: "\(tensor)"))
        }
        self.name = name
        self.globalShape = globalShape
        self.region = region
        self.tensor = tensor
    }

    /// A whole tensor as its only fragment.
    package init(whole tensor: Tensor, name: String) {
        self.name = name
        self.globalShape = tensor.shape
        self.region = Region(whole: tensor.shape)
        self.tensor = tensor
    }
}
