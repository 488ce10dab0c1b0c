import CairnBase
import CairnStorage

/// A block of a file where text of any length is.
///
/// Read here and not by HDF5, which believes the sizes and numbers in it: wrong ones make 1.10 read and write beyond
/// its memory, or never stop. Source: HDF5 File Format Specification 3.0, III.E.
struct GlobalHeap {
    /// Where it is, as the file counts.
    let address: Int
    private let bytes: [UInt8]
    private let objects: [Int: Range<Int>]

    private static let signature: [UInt8] = Array("GCOL".utf8)
    private static let greatestByteCount = 256 << 20

    /// - Throws: ``CairnError/Code/malformed`` when its objects do not fill it.
    init(_ address: Int, in parts: MetadataParts) throws(CairnError) {
        let (file, lengthWidth) = (parts.file, parts.widths.length)
        // Of the heap, and of each object in it.
        let headerByteCount = (8 + lengthWidth).roundedUpToEight
        func damaged() -> CairnError {
            CairnError(
                .malformed, "the heap with text of any length is damaged", .init(file: file.key, offset: address))
        }
        guard address >= 0, let offset = address.adding(checked: parts.base), offset <= file.byteCount - headerByteCount
        else { throw damaged() }
        let header = try file.bytes(in: offset..<offset + headerByteCount)
        guard header.starts(with: Self.signature), let byteCount = ByteFields(header).integer(8, lengthWidth),
            byteCount >= headerByteCount, byteCount <= min(Self.greatestByteCount, file.byteCount - offset)
        else { throw damaged() }
        let bytes = try file.bytes(in: offset..<offset + byteCount)
        let fields = ByteFields(bytes)
        var objects: [Int: Range<Int>] = [:]
        var position = headerByteCount
        while byteCount - position >= headerByteCount {
            guard let index = fields.integer(position, 2), let size = fields.integer(position + 8, lengthWidth),
                size <= byteCount - position - headerByteCount || index == 0
            else { throw damaged() }
            // Number 0 is what is free: all that is left.
            if index == 0 { break }
            let start = position + headerByteCount
            guard start + size <= byteCount, objects.updateValue(start..<start + size, forKey: index) == nil else {
                throw damaged()
            }
            position = start + (size + 7) / 8 * 8
        }
        self.address = address
        self.bytes = bytes
        self.objects = objects
    }

    var byteCount: Int { bytes.count }

    func object(_ index: Int) -> ArraySlice<UInt8>? { objects[index].map { bytes[$0] } }
}
