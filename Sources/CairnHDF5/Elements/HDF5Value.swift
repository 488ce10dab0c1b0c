import CairnBase
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
