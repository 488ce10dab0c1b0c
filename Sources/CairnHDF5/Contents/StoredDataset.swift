import CHDF5
import CairnBase
import CairnCheckpoint
import CairnInterop
import CairnTensor

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
