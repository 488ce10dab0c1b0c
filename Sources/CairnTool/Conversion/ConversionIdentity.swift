import CairnBase
import CairnCheckpoint
import CairnDigest
import CairnStorage

/// What tells a conversion from others: the source's tensors and values, its files as they are, and what is asked for.
enum ConversionIdentity {
    /// - Parameter options: What else decides on the result's bytes.
    static func text(
        of reader: any CheckpointReader, saveID: String?, source: String, options: [String]
    ) throws -> String {
        var lines = ["source \(PathInspection.canonical(source)) \(saveID ?? "")"] + options
        for tensor in reader.tensors {
            lines.append("\(tensor.name) \(tensor.scalarType) \(tensor.shape) \(tensor.tiedTo ?? "")")
        }
        for value in reader.values { lines.append("\(value.name) \(value.value)") }
        // A source that was written anew is another one.
        let (storage, prefix) =
            try PathInspection.kind(of: source) == .directory
            ? (LocalStorage(root: source), "") : try LocalStorage.locate(source)
        for entry in try storage.list(prefix) { lines.append("\(entry.key) \(entry.byteCount) \(entry.modified)") }
        let sum = try SHA256.digest(of: Array(lines.joined(separator: "\n").utf8).span.bytes)
        return Hexadecimal.encode(sum)
    }
}
