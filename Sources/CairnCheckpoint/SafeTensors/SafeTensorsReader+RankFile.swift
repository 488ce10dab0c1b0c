import CairnBase
import CairnTensor

extension SafeTensorsReader {
    public var skippedEntries: [String] { [rankFileNote].compactMap(\.self) }

    /// What a rank file has beside the tensors is no tensor.
    public var skippedTensorCount: Int { 0 }

    /// What is not whole in a rank file of a checkpoint of ours that is opened by itself, in a sentence; `nil` for any other
    /// file.
    private var rankFileNote: String? {
        func text(_ key: String) -> String? {
            guard case .string(let text)? = metadata.first(where: { $0.name == key })?.value else { return nil }
            return text
        }
        guard text(RankFileMetadata.versionKey) != nil, let rank = text("cairn.rank"), let count = text("cairn.ranks") else {
            return nil
        }
        let described = text("cairn.fragments").flatMap { try? JSONValue(parsing: $0).asObject() } ?? JSONObject()
        func tensors(_ key: String) -> Int {
            described.members.count { member in (try? member.value.asObject())?[key] != nil }
        }
        var note = "this is the file of rank \(rank) of \(count) of a checkpoint of Cairn's, opened by itself"
        let (parts, compressed) = (tensors("shape"), tensors("codec"))
        if parts > 0 { note += "; of its \(self.tensors.count) tensors \(parts) are parts of larger ones" }
        if compressed > 0 { note += "; \(compressed) are compressed and seen as bytes" }
        return note
    }
}
