import CairnBase
import CairnStorage
import CairnTensor

/// Attributes and small datasets as values.
enum HDF5Value {
    /// The most bytes, and numbers and texts, of one value.
    static let greatestByteCount = 16 << 20
    static let greatestCount = 1 << 20

    /// What could not be made a value, in words.
    struct Refusal: Error {
        let reason: String
    }

    /// Why elements cannot be a value, `nil` when they can.
    static func refusal(_ type: StoredType, _ extents: [Int]) -> Refusal? {
        if let reason = type.refusal { return Refusal(reason: reason) }
        var count: Int? = 1
        for extent in extents { count = count?.multiplied(checked: extent) }
        guard let count, let byteCount = count.multiplied(checked: type.byteCount), byteCount <= greatestByteCount,
            let leafCount = count.multiplied(checked: type.leafCount), leafCount <= greatestCount
        else {
            let shown = count.map(String.init) ?? "too many"
            return Refusal(reason: "\(shown) elements of \(type.byteCount) bytes, more than a value may have")
        }
        return nil
    }

    static func of(_ attribute: StoredAttribute, in file: HDF5File) throws(CairnError) -> Result<Value, Refusal> {
        guard let extents = attribute.extents else { return .success(.null) }
        if let refusal = refusal(attribute.type, extents) { return .failure(refusal) }
        return .success(try value(attribute.type, extents, Array(attribute.bytes), in: file))
    }

    /// The value of elements that ``refusal(_:_:)`` says nothing against.
    static func value(
        _ type: StoredType, _ extents: [Int], _ bytes: [UInt8], in file: HDF5File
    ) throws(CairnError) -> Value {
        let size = type.byteCount
        var position = 0
        return try bytes.withUnsafeBytes { bytes -> Result<Value, CairnError> in
            do throws(CairnError) {
                let value = try list(extents[...]) { () throws(CairnError) in
                    guard position + size <= bytes.count else { throw CairnError(.malformed, "elements are cut short") }
                    defer { position += size }
                    let part = bytes[position..<position + size]
                    return try element(type, UnsafeRawBufferPointer(rebasing: part), in: file)
                }
                return .success(value)
            } catch {
                return .failure(error)
            }
        }.get()
    }

    /// Lists in each other, one a dimension.
    private static func list(
        _ extents: ArraySlice<Int>, _ next: () throws(CairnError) -> Value
    ) throws(CairnError) -> Value {
        guard let extent = extents.first else { return try next() }
        var elements: [Value] = []
        // Nothing is in a list without a place for elements further in.
        guard !extents.contains(0) else { return .list([]) }
        elements.reserveCapacity(extent)
        for _ in 0..<extent { elements.append(try list(extents.dropFirst(), next)) }
        return .list(elements)
    }

    private static func element(
        _ type: StoredType, _ bytes: UnsafeRawBufferPointer, in file: HDF5File
    ) throws(CairnError) -> Value {
        switch type {
        case .integer(let form): return integer(form, bytes)
        case .enumeration(let form, _): return type.isBoolean ? .bool(bytes[0] != 0) : integer(form, bytes)
        case .float(let form): return try number(form, bytes)
        case .complex(let form): return try complex(form, bytes, in: file)
        case .text(_, let padding): return text(padding, bytes)
        case .variableLengthString: return try VariableLengthString.value(bytes, in: file)
        case .opaque: return .bytes(Array(bytes))
        case .array(let extents, let element):
            let size = element.byteCount
            var position = 0
            return try list(extents[...]) { () throws(CairnError) in
                defer { position += size }
                return try self.element(
                    element, UnsafeRawBufferPointer(rebasing: bytes[position..<position + size]), in: file)
            }
        case .record(_, let members):
            var values: [String: Value] = [:]
            for member in members {
                let part = bytes[member.offset..<member.offset + member.type.byteCount]
                values[member.name] = try element(member.type, UnsafeRawBufferPointer(rebasing: part), in: file)
            }
            return .dictionary(values)
        case .unknown(_, let reason): throw CairnError(.unsupported, reason)
        }
    }

    /// A complex number as h5py's record of it is a value.
    private static func complex(
        _ form: StoredType.FloatForm, _ bytes: UnsafeRawBufferPointer, in file: HDF5File
    ) throws(CairnError) -> Value {
        let middle = form.byteCount
        return .dictionary([
            "r": try number(form, UnsafeRawBufferPointer(rebasing: bytes[..<middle])),
            "i": try number(form, UnsafeRawBufferPointer(rebasing: bytes[middle...])),
        ])
    }

    private static func integer(_ form: StoredType.IntegerForm, _ bytes: UnsafeRawBufferPointer) -> Value {
        let bits = form.bits(bytes)
        if form.isSigned { return .integer(Int64(bitPattern: bits)) }
        return Int64(exactly: bits).map { .integer($0) } ?? .unsigned(bits)
    }

    private static func number(
        _ form: StoredType.FloatForm, _ bytes: UnsafeRawBufferPointer
    ) throws(CairnError) -> Value {
        guard let scalarType = form.scalarType else { throw CairnError(.unsupported, form.description) }
        var bits: UInt64 = 0
        for index in 0..<form.byteCount {
            bits = bits << 8 | UInt64(bytes[form.isBigEndian == true ? index : form.byteCount - 1 - index])
        }
        switch scalarType {
        case .f64: return .double(Double(bitPattern: bits))
        case .f32: return .double(Double(Float(bitPattern: UInt32(truncatingIfNeeded: bits))))
        default: break
        }
        bits = bits.littleEndian
        var result: Double = 0
        do throws(CairnError) {
            try withUnsafeBytes(of: &bits) { source throws(CairnError) in
                try withUnsafeMutableBytes(of: &result) { target throws(CairnError) in
                    var destination = target.mutableBytes
                    try ScalarConversion.convert(
                        source.bytes.extracting(0..<form.byteCount), from: scalarType, into: &destination, to: .f64)
                }
            }
        } catch {
            throw error
        }
        return .double(result)
    }

    /// Text of a fixed size, or its bytes when it is not UTF-8.
    private static func text(_ padding: Int, _ stored: UnsafeRawBufferPointer) -> Value {
        var bytes = Array(stored)
        // Ends at a NUL, is filled up with NULs, is filled up with spaces.
        if padding == 0, let end = bytes.firstIndex(of: 0) { bytes.removeSubrange(end...) }
        while bytes.last == 0 { bytes.removeLast() }
        if padding == 2 { while bytes.last == UInt8(ascii: " ") { bytes.removeLast() } }
        return String(validating: bytes, as: UTF8.self).map { .string($0) } ?? .bytes(bytes)
    }
}

/// Strings of variable length: an element holds the length of its string and its location in a global heap.
enum VariableLengthString {
    /// The string of an element, or its bytes when they are not UTF-8.
    static func value(_ element: UnsafeRawBufferPointer, in file: HDF5File) throws(CairnError) -> Value {
        // A length of four bytes, an address, a number of four.
        let width = element.count - 8
        guard let length = ObjectHeaderBlock.integer(element, 0, 4), length > 0,
            let address = ObjectHeaderBlock.integer(element, 4, width), address > 0,
            let index = ObjectHeaderBlock.integer(element, 4 + width, 4)
        else { return .string("") }
        let object = try file.heapObject(address, index)
        guard length <= object.count else {
            throw CairnError(
                .malformed, "a string is longer than its space in the file",
                .init(offset: address, expected: "at most \(object.count) bytes", found: "\(length)"))
        }
        // Some writers count the NUL at the end.
        let bytes = object.prefix(length).prefix { $0 != 0 }
        return String(validating: bytes, as: UTF8.self).map { .string($0) } ?? .bytes(Array(bytes))
    }
}

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
