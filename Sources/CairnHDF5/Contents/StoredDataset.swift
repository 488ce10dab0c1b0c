import CHDF5
import CairnBase
import CairnInterop
import CairnTensor

/// What a dataset is to a checkpoint.
enum StoredDataset {
    case tensor(TensorDataset)
    case value(Value)
    /// Why it is left out.
    case omitted(String)

    /// - Throws: ``CairnError/Code/malformed`` for a dataset that is damaged or contradicts itself.
    init(
        _ id: hid_t, _ path: String, at address: UInt64, of file: HDF5File, attributes: [String], isOfKeras: Bool
    ) throws(CairnError) {
        let properties = try HDF5Handle(
            H5Dget_create_plist(id), closing: H5Pclose, "find how a dataset is stored")
        let layout = H5Pget_layout(properties.id)
        // Before the shape is asked for: to tell that of a virtual dataset HDF5 would open the files that it is of.
        if layout == H5D_VIRTUAL {
            self = .omitted("it is virtual, made of datasets in other files, which are not opened")
            return
        }
        if layout == H5D_CONTIGUOUS, H5Pget_external_count(properties.id) != 0 {
            self = .omitted("its elements are in other files, which are not opened")
            return
        }
        let space = try HDF5Handle(H5Dget_space(id), closing: H5Sclose, "find the shape of a dataset")
        guard let extents = try HDF5Space.extents(space.id) else {
            self = .value(.null)
            return
        }
        let type = try HDF5Handle(H5Dget_type(id), closing: H5Tclose, "find the type of a dataset")
        let element = try HDF5Type(type.id)
        if case .unknown(let reason) = element {
            self = .omitted("it holds \(reason)")
            return
        }
        if case .value = element {
            switch try Self.smallValue(id, properties.id, layout, of: file) {
            case .success(let value): self = .value(value)
            case .failure(let refusal): self = .omitted("it holds \(refusal.reason)")
            }
            return
        }
        var dataset = TensorDataset(file: file, path: path, extents: extents, element: element)
        if case .opaque(let size) = element {
            try dataset.understandOpaque(id, size, attributes: attributes, isOfKeras: isOfKeras)
        }
        let newerLayout = layout == H5D_CHUNKED ? try file.newerLayout(of: address) : nil
        if let reason = try dataset.locate(id, properties.id, type.id, layout, newerLayout) {
            self = .omitted(reason)
        } else {
            self = .tensor(dataset)
        }
    }

    /// Text and records; HDF5 reads them, so filters that it cannot bound are refused.
    private static func smallValue(
        _ id: hid_t, _ properties: hid_t, _ layout: H5D_layout_t, of file: HDF5File
    ) throws(CairnError) -> Result<Value, HDF5Value.Refusal> {
        if layout == H5D_CHUNKED {
            let filters = try TensorDataset.filters(properties)
            for filter in filters.filters where H5Zfilter_avail(filter.id) <= 0 {
                return .failure(
                    HDF5Value.Refusal(reason: "chunks that went through filter \(filter.id), which is not known"))
            }
            var extents = [hsize_t](repeating: 0, count: 32)
            let type = try HDF5Handle(H5Dget_type(id), closing: H5Tclose, "find the type of a dataset")
            let count = H5Pget_chunk(properties, 32, &extents)
            guard count > 0, count <= 32 else { throw HDF5Library.failure("find the shape of chunks") }
            var byteCount: Int? = H5Tget_size(type.id)
            for extent in extents.prefix(Int(count)) {
                byteCount = Int(exactly: extent).flatMap { byteCount?.multiplied(checked: $0) }
            }
            guard let byteCount, byteCount <= 16 << 20 else {
                return .failure(HDF5Value.Refusal(reason: "values in chunks larger than 16 MiB"))
            }
        }
        return try HDF5Value.dataset(id, in: file)
    }
}
