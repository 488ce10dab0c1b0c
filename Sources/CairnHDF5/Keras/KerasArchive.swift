import CairnBase
import CairnCheckpoint
import CairnInterop
import CairnStorage
import CairnTensor

/// A `.keras` file: a zip archive with the weights as HDF5 and the model's description as JSON.
enum KerasArchive {
    /// The record with the weights.
    static let weightsName = "model.weights.h5"
    /// Records of text that are kept as values.
    private static let textNames = ["config.json", "metadata.json"]
    private static let greatestText = 64 << 20

    /// The weights, read inside of the archive, and the texts.
    static func open(_ zip: ZipArchive) throws(CairnError) -> (weights: ZipRecord, texts: [NamedValue]) {
        guard zip.contains(weightsName) else {
            throw CairnError(
                .unsupported, "the zip archive is not of Keras",
                .init(
                    file: zip.file.key, expected: weightsName,
                    found: zip.entries.prefix(3).map(\.name).joined(separator: ", ")))
        }
        var texts: [NamedValue] = []
        for name in textNames where zip.contains(name) {
            let bytes = try zip.bytes(name, limit: greatestText)
            guard let text = String(validating: bytes, as: UTF8.self) else {
                throw CairnError(
                    .malformed, "a text of the archive is not UTF-8", .init(file: zip.file.key, found: name))
            }
            texts.append(NamedValue(name: name, value: .string(text)))
        }
        return (try zip.record(weightsName), texts)
    }
}
