import CairnBase
import CairnCheckpoint

/// What of a checkpoint is in files of earlier saves, and since which step each tensor has not changed.
struct EarlierParts {
    /// For each tensor of which some is in an earlier file the oldest and the newest step of its pieces.
    private(set) var ages: [ExactString: ClosedRange<Int>] = [:]
    private let files: [Manifest.EarlierFile]
    private let step: Int

    init(_ reader: CairnReader?) throws {
        files = reader?.manifest.earlier ?? []
        step = reader?.manifest.step ?? 0
        guard let reader, !files.isEmpty else { return }
        for tensor in reader.manifest.tensors {
            let steps = try reader.fragments(of: tensor.name, intersecting: nil).compactMap {
                reader.manifest.file($0.file)?.step
            }
            if let oldest = steps.min(), let newest = steps.max() { ages[ExactString(tensor.name)] = oldest...newest }
        }
    }

    var isEmpty: Bool { files.isEmpty }

    /// `3 files of the steps 100 and 300, which hold 12 of 14 tensors`
    var text: String {
        let steps = Set(files.map(\.step)).sorted().map(String.init)
        let unchanged = ages.values.count { $0.upperBound < step }
        return "\(NumberText.count(files.count, "file")) of step \(steps.joined(separator: ", ")), which "
            + "\(files.count == 1 ? "holds" : "hold") \(NumberText.count(unchanged, "unchanged tensor")); "
            + "`cairn pack` makes it self-contained"
    }

    func text(of name: String) -> String {
        guard let age = ages[ExactString(name)] else { return "-" }
        return age.lowerBound == age.upperBound ? "\(age.lowerBound)" : "\(age.lowerBound)…\(age.upperBound)"
    }

    var document: JSONValue {
        .array(
            files.map {
                [
                    "step": .count($0.step), "save_id": .string($0.saveID.description), "file": .string($0.file.name),
                    "bytes": .count($0.file.byteCount),
                ]
            })
    }
}
