import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor

/// An archive of `torch.export.save` (`.pt2`): programs, and the weights and constants they work with, of which the
/// latter are read.
///
/// Older archives hold the weights as a file of `torch.save`. Source: `torch/export/pt2_archive/_package.py` of PyTorch
/// 2.13.
struct ExportedProgram {
    private let zip: ZipArchive
    private let prefix: String
    /// The programs' names.
    private let models: [String]
    private let isOld: Bool

    private static let format = "archive_format"
    private static let oldProgram = "serialized_exported_program.json"
    private static let weights = "data/weights/"
    private static let constants = "data/constants/"
    private static let greatestConfiguration = 1 << 28

    /// `nil` for an archive of something else.
    init?(_ zip: ZipArchive) throws(CairnError) {
        self.zip = zip
        let names = zip.entries.map(\.name)
        if let old = names.first(where: { $0 == Self.oldProgram || $0.hasSuffix("/" + Self.oldProgram) }) {
            prefix = String(old.dropLast(Self.oldProgram.count))
            models = []
            isOld = true
            return
        }
        guard let mark = names.first(where: { $0 == Self.format || $0.hasSuffix("/" + Self.format) }),
            try zip.bytes(mark, limit: 64).elementsEqual("pt2".utf8)
        else { return nil }
        let prefix = String(mark.dropLast(Self.format.count))
        self.prefix = prefix
        isOld = false
        models = names.compactMap { name in
            guard name.hasPrefix(prefix + "models/"), name.hasSuffix(".json") else { return nil }
            return String(name.dropFirst(prefix.utf8.count + "models/".utf8.count).dropLast(".json".utf8.count))
        }
    }

    /// The weights under the names that the programs have for them; those of several programs below the programs' names.
    func contents() throws(CairnError) -> TorchContents {
        var contents = TorchContents()
        if isOld {
            for name in ["serialized_state_dict", "serialized_constants"] {
                for suffix in [".pt", ".json"] where zip.contains(prefix + name + suffix) {
                    try add(try zip.record(prefix + name + suffix), below: [], to: &contents)
                }
            }
        }
        for model in models {
            let path = models.count > 1 ? [StateKey(model)] : []
            try add(Self.weights, model, "_weights_config.json", below: path, to: &contents)
            try add(Self.constants, model, "_constants_config.json", below: path, to: &contents)
        }
        contents.structure = .dictionary(
            contents.tensors.enumerated().map { index, tensor in
                .init(key: StateKey(StateNames.joined(tensor.path)), node: .tensor(String(index)))
            })
        return contents
    }

    private func add(
        _ folder: String, _ model: String, _ suffix: String, below path: [StateKey], to contents: inout TorchContents
    ) throws(CairnError) {
        let older = prefix + folder + model + ".pt"
        if zip.contains(older) { return try add(try zip.record(older), below: path, to: &contents) }
        let name = prefix + folder + model + suffix
        guard zip.contains(name) else {
            guard folder == Self.weights else { return }
            throw CairnError(
                .incomplete, "the archive says nothing of a program's weights",
                .init(file: zip.file.key, expected: name))
        }
        for payload in try payloads(name) {
            do throws(CairnError) {
                try add(payload, in: folder, below: path, to: &contents)
            } catch {
                throw error.adding(.init(file: zip.file.key, tensor: payload.name))
            }
        }
    }

    /// What the archive says of one tensor.
    private struct Payload {
        var name: String
        var record: String
        /// Whether the record is a file of `torch.save`.
        var isPickled: Bool
        var view: View?
    }

    private struct View {
        var type: Int
        var layout: Int
        var sizes: [Int]
        var strides: [Int]
        var offset: Int
    }

    private static let stridedLayout = 7

    private func payloads(_ name: String) throws(CairnError) -> [Payload] {
        let text = try zip.bytes(name, limit: Self.greatestConfiguration)
        do throws(JSONError) {
            var payloads: [Payload] = []
            for member in try JSONValue(parsing: text).asObject().object("config").members {
                let payload = try member.value.asObject()
                var view: View?
                if let meta = payload["tensor_meta"], meta != .null { view = try Self.view(meta.asObject()) }
                payloads.append(
                    Payload(
                        name: member.key, record: try payload.string("path_name"),
                        isPickled: try payload.bool("use_pickle"), view: view))
            }
            return payloads
        } catch {
            throw CairnError(.malformed, "\(name) is not as PyTorch writes it: \(error)", .init(file: zip.file.key))
        }
    }

    private static func view(_ meta: JSONObject) throws(JSONError) -> View {
        var (sizes, strides): ([Int], [Int]) = ([], [])
        for size in try meta.array("sizes") { sizes.append(try size.asObject().integer("as_int")) }
        for stride in try meta.array("strides") { strides.append(try stride.asObject().integer("as_int")) }
        return View(
            type: try meta.integer("dtype"), layout: try meta.integer("layout"), sizes: sizes, strides: strides,
            offset: try meta.object("storage_offset").integer("as_int"))
    }

    private func add(
        _ payload: Payload, in folder: String, below path: [StateKey], to contents: inout TorchContents
    ) throws(CairnError) {
        let record = try zip.record(prefix + folder + payload.record)
        let statePath = path + [StateKey(payload.name)]
        if payload.isPickled {
            guard payload.view != nil else {
                contents.skippedEntries.append("\(payload.name) is an object of the program, no tensor, and is left out")
                return
            }
            return try add(record, below: statePath, to: &contents)
        }
        guard let view = payload.view, view.layout == Self.stridedLayout,
            let type = TorchTypes.scalarType(exported: view.type)
        else {
            throw CairnError(
                .unsupported, "the type or layout of a tensor is unknown",
                .init(found: payload.view.map { "type \($0.type), layout \($0.layout)" } ?? "none"))
        }
        let tensor = try TorchView(
            storage: record.entry.name, storageByteCount: record.byteCount, type, extents: view.sizes,
            strides: view.strides, offset: view.offset)
        if !contents.storages.contains(where: { $0 === record }) { contents.storages.append(record) }
        contents.tensors.append(
            .init(path: statePath, content: tensor.content(record, isBigEndian: false), view: tensor))
    }

    /// Adds a file of `torch.save` that is within the archive.
    private func add(
        _ record: ZipRecord, below path: [StateKey], to contents: inout TorchContents
    ) throws(CairnError) {
        let inner = try TorchContents(record)
        for var tensor in inner.tensors {
            tensor.path = path + tensor.path
            if var view = tensor.view {
                view.storage = record.entry.name + "/" + view.storage
                tensor.view = view
            }
            contents.tensors.append(tensor)
        }
        contents.values += inner.values.map { (path + $0.path, $0.value) }
        contents.skippedEntries += inner.skippedEntries
        contents.storages += [record] + inner.storages
    }
}
