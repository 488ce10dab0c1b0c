import CairnBase

/// The extents of what is in a file; none for a single element, `nil` where there are no elements at all.
///
/// Source: HDF5 File Format Specification 3.0, IV.A.2.b.
enum StoredShape {
    /// - Throws: ``CairnError/Code/malformed`` for a shape that is damaged.
    static func extents(_ content: [UInt8], lengthWidth: Int) throws(CairnError) -> [Int]? {
        let fields = ByteFields(content)
        guard let version = fields.integer(0, 1), (1...2).contains(version), let count = fields.integer(1, 1), count <= 32
        else { throw CairnError(.malformed, "a shape is damaged") }
        // Version 2 tells a shape without elements from one without dimensions.
        if version == 2, fields.integer(3, 1) == 2 { return nil }
        let start = version == 1 ? 8 : 4
        var extents: [Int] = []
        for index in 0..<count {
            guard let extent = fields.integer(start + index * lengthWidth, lengthWidth) else {
                throw CairnError(.malformed, "an extent is out of range")
            }
            extents.append(extent)
        }
        return extents
    }
}

/// An attribute of an object. Source: HDF5 File Format Specification 3.0, IV.A.2.m.
struct StoredAttribute {
    let name: String
    let type: StoredType
    let extents: [Int]?
    let bytes: ArraySlice<UInt8>

    private enum Part {
        case type, shape
    }

    /// - Throws: ``CairnError/Code/malformed`` for an attribute that is damaged, with its name as the tensor's where that
    ///   is known.
    init(_ content: [UInt8], in headers: ObjectHeaders) throws(CairnError) {
        let fields = ByteFields(content)
        func damaged(_ reason: String) -> CairnError { CairnError(.malformed, "an attribute is damaged: \(reason)") }
        guard let version = fields.integer(0, 1), (1...3).contains(version), let flags = fields.integer(1, 1),
            let nameByteCount = fields.integer(2, 2), nameByteCount > 0, let typeByteCount = fields.integer(4, 2),
            let shapeByteCount = fields.integer(6, 2)
        else { throw damaged("it is cut short") }
        let isPadded = version == 1
        func padded(_ byteCount: Int) -> Int { isPadded ? byteCount.roundedUpToEight : byteCount }
        let header = version == 3 ? 9 : 8
        let typeStart = header + padded(nameByteCount)
        let shapeStart = typeStart + padded(typeByteCount)
        let end = shapeStart + padded(shapeByteCount)
        guard end <= content.count else { throw damaged("its parts are longer than it is") }
        let text = content[header..<header + nameByteCount].prefix { $0 != 0 }
        guard let name = String(validating: text, as: UTF8.self), !name.isEmpty else {
            let shown = String(decoding: text, as: UTF8.self)
            throw CairnError(.unsupported, "its name is empty or no UTF-8", .init(found: shown))
        }
        self.name = name
        do throws(CairnError) {
            // Types and shapes may be kept elsewhere; their places are here then.
            var type = Array(content[typeStart..<typeStart + typeByteCount])
            if !isPadded, flags & 1 != 0 { type = try headers.shared(type, kind: ObjectHeaderBlock.typeKind) }
            var shape = Array(content[shapeStart..<shapeStart + shapeByteCount])
            if !isPadded, flags & 2 != 0 { shape = try headers.shared(shape, kind: ObjectHeaderBlock.shapeKind) }
            self.type = try StoredType(type, addressWidth: headers.parts.widths.address)
            extents = try StoredShape.extents(shape, lengthWidth: headers.parts.widths.length)
            var byteCount: Int? = extents == nil ? 0 : self.type.byteCount
            for extent in extents ?? [] { byteCount = byteCount?.multiplied(checked: extent) }
            guard let byteCount, byteCount <= content.count - end else { throw damaged("its elements are cut short") }
            bytes = content[end..<end + byteCount]
        } catch {
            throw error.adding(.init(found: name))
        }
    }
}

extension ObjectHeaders {
    /// The attributes among the messages of an object's header, in the header or outside of it, sorted by name, and
    /// what is wrong with those that are left out.
    func attributes(_ messages: [HeaderMessage]) throws(CairnError) -> (
        attributes: [StoredAttribute], failures: [CairnError]
    ) {
        var attributes: [StoredAttribute] = []
        var failures: [CairnError] = []
        func add(_ content: () throws(CairnError) -> [UInt8]) throws(CairnError) {
            do throws(CairnError) {
                attributes.append(try StoredAttribute(content(), in: self))
            } catch {
                guard error.isOfContent else { throw error }
                failures.append(error)
            }
        }
        for message in messages where message.kind == ObjectHeaderBlock.attributeKind {
            try add { () throws(CairnError) in try self.content(of: message) }
        }
        for message in messages where message.kind == ObjectHeaderBlock.attributeInformationKind {
            let fields = ByteFields(message.content)
            let offset = message.content.count > 1 && message.content[1] & 1 != 0 ? 4 : 2
            guard let heapAddress = fields.address(offset, parts.widths.address) else { continue }
            do throws(CairnError) {
                guard let index = fields.address(offset + parts.widths.address, parts.widths.address) else {
                    throw parts.damaged("attributes have no index", heapAddress)
                }
                let heap = try FractalHeap(heapAddress, in: parts)
                // An identifier, the flags of the message, its place in the order of making, and a hash of the name.
                for record in try BTree2(parts).records(of: index, kind: 8, byteCount: 17) {
                    let id = Array(record.bytes.prefix(8))
                    let isShared = record.bytes[8] & 2 != 0
                    try add { () throws(CairnError) in
                        isShared
                            ? try self.sharedObject(id, kind: ObjectHeaderBlock.attributeKind) : try heap.object(id)
                    }
                }
            } catch {
                guard error.isOfContent else { throw error }
                failures.append(error)
            }
        }
        attributes.sort { ExactString($0.name) < ExactString($1.name) }
        return (attributes, failures)
    }
}

extension CairnError {
    /// Whether the error is in what the file holds: an object of it is left out, and the rest is read.
    var isOfContent: Bool { code.isDamage || code == .unsupported }
}
