import CHDF5
import CairnBase
import CairnCheckpoint
import CairnInterop
import CairnTensor

/// What elements of a dataset are to a tensor.
enum HDF5Type {
    /// The bits of a type that tensors have; numbers of `swapped` bytes have their bytes in the other order. `inner`
    /// are further dimensions that every element has.
    case numbers(ScalarType, swapped: Int?, inner: [Int])
    /// Integers that do not fill their bytes, or fill an odd number of them, which become these.
    case packed(ScalarType, StoredType.IntegerForm)
    /// Bytes of unknown meaning, so many an element.
    case opaque(Int)
    /// Text and records, which become values.
    case value
    /// What is not understood, in words.
    case unknown(String)

    init(_ type: StoredType) {
        switch type {
        case .integer(let form): self = Self.integer(form)
        case .enumeration(let form, _): self = type.isBoolean ? .numbers(.bool, swapped: nil, inner: []) : Self.integer(form)
        case .float(let form):
            guard let scalarType = form.scalarType else {
                self = .unknown(form.description)
                return
            }
            self = .numbers(scalarType, swapped: form.swapped, inner: [])
        case .complex(let form):
            guard let scalarType = form.complexType else {
                self = .unknown("complex " + form.description)
                return
            }
            self = .numbers(scalarType, swapped: form.swapped, inner: [])
        case .opaque(let byteCount): self = .opaque(byteCount)
        case .record:
            guard let form = type.complexForm, let scalarType = form.complexType else {
                self = .value
                return
            }
            self = .numbers(scalarType, swapped: form.swapped, inner: [])
        case .array(let extents, let element):
            guard case .numbers(let scalarType, let swapped, let inner) = HDF5Type(element) else {
                self = .value
                return
            }
            self = .numbers(scalarType, swapped: swapped, inner: extents + inner)
        case .text, .variableLengthString: self = .value
        case .unknown(_, let reason): self = .unknown(reason)
        }
    }

    private static func integer(_ form: StoredType.IntegerForm) -> HDF5Type {
        guard let holding = form.scalarType else { return .unknown("\(form.byteCount)-byte integers") }
        guard form.isWhole, holding.byteWidth == form.byteCount else { return .packed(holding, form) }
        let isSwapped = form.isBigEndian && form.byteCount > 1
        return .numbers(holding, swapped: isSwapped ? form.byteCount : nil, inner: [])
    }
}

extension StoredType {
    /// Whether an enumeration is h5py's truth value: FALSE = 0 and TRUE = 1 in a byte.
    var isBoolean: Bool {
        guard case .enumeration(let form, let members) = self, form.byteCount == 1, members.count == 2 else {
            return false
        }
        return [("FALSE", UInt8(0)), ("TRUE", 1)].allSatisfy { name, number in
            members.contains { $0.name == name && $0.number == [number] }
        }
    }

    /// The parts of a complex number as h5py writes it: a record of `r` and `i`.
    var complexForm: FloatForm? {
        guard case .record(let byteCount, let members) = self, members.count == 2, members[0].name == "r",
            members[1].name == "i", members[0].offset == 0, members[1].offset == byteCount / 2,
            case .float(let real) = members[0].type, case .float(let imaginary) = members[1].type, real == imaginary,
            real.byteCount * 2 == byteCount
        else { return nil }
        return real
    }
}

extension StoredType.IntegerForm {
    /// The least type that holds the integers.
    var scalarType: ScalarType? {
        switch byteCount {
        case 1: isSigned ? .i8 : .u8
        case 2: isSigned ? .i16 : .u16
        case 3, 4: isSigned ? .i32 : .u32
        case 5...8: isSigned ? .i64 : .u64
        default: nil
        }
    }

    /// An integer from its bytes, its sign carried up to the top.
    @inline(__always)
    func bits(_ bytes: UnsafeRawBufferPointer) -> UInt64 {
        var bits: UInt64 = 0
        for index in 0..<byteCount {
            bits = bits << 8 | UInt64(bytes[isBigEndian ? index : byteCount - 1 - index])
        }
        let shift = UInt64(64 - bitCount)
        bits = (bits >> UInt64(firstBit)) << shift
        return isSigned ? UInt64(bitPattern: Int64(bitPattern: bits) >> Int64(shift)) : bits >> shift
    }
}

extension StoredType.FloatForm: CustomStringConvertible {
    /// The type whose bits the numbers are.
    var scalarType: ScalarType? {
        guard hasImpliedBit, mantissa.lowerBound == 0, firstBit == 0, exponent.lowerBound == mantissa.upperBound,
            sign == byteCount * 8 - 1, exponent.upperBound == sign, isBigEndian != nil
        else { return nil }
        return switch (byteCount, exponent.count, bias) {
        case (8, 11, 1023): .f64
        case (4, 8, 127): .f32
        case (2, 5, 15): .f16
        case (2, 8, 127): .bf16
        case (1, 5, 15): .f8e5m2
        case (1, 4, 7): .f8e4m3
        default: nil
        }
    }

    /// The type of complex numbers that have such parts.
    var complexType: ScalarType? {
        switch scalarType {
        case .f64: .c128
        case .f32: .c64
        case .f16: .c32
        default: nil
        }
    }

    /// How many bytes are in the other order.
    var swapped: Int? { byteCount > 1 && isBigEndian == true ? byteCount : nil }

    /// The message for numbers that no type has.
    var description: String {
        guard isBigEndian != nil else { return "\(byteCount)-byte floating-point numbers in the order of a VAX" }
        if byteCount > 8 {
            return "\(byteCount)-byte floating-point numbers of \(bitCount) bits (long double), more than any type has"
        }
        return "\(byteCount)-byte floating-point numbers with \(exponent.count) bits of exponent and \(mantissa.count) of "
            + "mantissa, which no type has"
    }
}

/// The names by which a `dtype` attribute says what opaque bytes are, as Keras and `ml_dtypes` spell them.
enum OpaqueTypeName {
    private static let names: [(String, ScalarType)] = [
        ("bfloat16", .bf16), ("float8_e4m3fn", .f8e4m3), ("float8_e5m2", .f8e5m2), ("float8_e8m0fnu", .f8e8m0),
        ("float8_e4m3fnuz", .f8e4m3fnuz), ("float8_e5m2fnuz", .f8e5m2fnuz),
        // Packed, with the shape beside it.
        ("F4", .f4), ("F6_E2M3", .f6e2m3), ("F6_E3M2", .f6e3m2),
    ]

    static func scalarType(_ name: String) -> ScalarType? { names.first { $0.0 == name }?.1 }

    static func name(of scalarType: ScalarType) -> String? { names.first { $0.1 == scalarType }?.0 }
}

/// What a dataset is to a checkpoint.
enum StoredDataset {
    case tensor(TensorDataset)
    case value(Value)
    /// A table of many records: a tensor for each column of numbers, and what is left out of it.
    case columns([(name: String, content: any TensorView)], skippedEntries: [String])
    /// Why it is left out.
    case skipped(String)

    /// The most records that become a value; the columns of longer tables are tensors.
    private static let greatestRecordCount = 4096

    /// - Parameters:
    ///   - header: The messages of its header.
    ///   - attributes: What it has beside its elements.
    /// - Throws: ``CairnError/Code/malformed`` for a dataset that is damaged or contradicts itself.
    init(
        _ path: String, of file: HDF5File, header: [HeaderMessage], attributes: [StoredAttribute], isOfKeras: Bool,
        cache: ChunkCache
    ) throws(CairnError) {
        func content(_ kind: UInt8, _ what: String) throws(CairnError) -> [UInt8] {
            guard let message = header.first(where: { $0.kind == kind }) else {
                throw CairnError(.malformed, "a dataset has no \(what)")
            }
            return try file.headers.content(of: message)
        }
        let widths = file.headers.parts.widths
        let layout = try content(ObjectHeaderBlock.layoutKind, "layout")
        // Before it is opened: HDF5 1.10 does not open those of newer ones, and would open the files that it is of.
        if layout.count > 1, layout[0] >= 3, layout[1] == 3 {
            self = .skipped("it is virtual, made of parts of other datasets, which are not put together")
            return
        }
        let type = try StoredType(content(ObjectHeaderBlock.typeKind, "type"), addressWidth: widths.address)
        let element = HDF5Type(type)
        if case .unknown(let reason) = element {
            self = .skipped("it holds \(reason)")
            return
        }
        let shape = try StoredShape.extents(
            content(ObjectHeaderBlock.shapeKind, "shape"), lengthWidth: widths.length)
        guard let extents = shape else {
            self = .value(.null)
            return
        }
        let id = try HDF5Handle(
            H5Dopen2(file.id, path, defaultProperties), closing: H5Dclose, "open a dataset")
        let properties = try HDF5Handle(
            H5Dget_create_plist(id.id), closing: H5Pclose, "find how a dataset is stored")
        if H5Pget_layout(properties.id) == H5D_CONTIGUOUS, H5Pget_external_count(properties.id) != 0 {
            self = .skipped("its elements are in other files, which are not opened")
            return
        }
        var dataset = TensorDataset(file: file, path: path, extents: extents, element: element, type: type)
        if case .opaque(let size) = element {
            try dataset.understandOpaque(size, attributes: attributes, isOfKeras: isOfKeras)
        }
        if let reason = try dataset.locate(id.id, properties.id, layout) {
            self = .skipped(reason)
            return
        }
        guard case .value = element else {
            self = .tensor(dataset)
            return
        }
        let records = try dataset.content(cache)
        var count: Int? = 1
        for extent in extents { count = count?.multiplied(checked: extent) }
        if case .record(_, let members) = type, count.map({ $0 > Self.greatestRecordCount }) ?? true {
            let columns = try RecordColumn.columns(members, of: records, extents: extents)
            self = .columns(columns.columns, skippedEntries: columns.skippedEntries)
            return
        }
        if let refusal = HDF5Value.refusal(type, extents) {
            self = .skipped("it holds \(refusal.reason)")
            return
        }
        let region = Region(whole: records.shape)
        var bytes = [UInt8](repeating: 0, count: records.shape.elementCount)
        if !bytes.isEmpty {
            var span = bytes.mutableSpan
            var raw = span.mutableBytes
            try records.read(region, into: &raw)
        }
        self = .value(try HDF5Value.value(type, extents, bytes, in: file))
    }
}
