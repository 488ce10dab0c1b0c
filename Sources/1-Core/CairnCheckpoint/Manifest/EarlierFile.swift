import CairnBase
import CairnTensor

extension Manifest {
    /// The requirement that tells readers of files of earlier saves.
    static let referencesRequirement = "references"

    /// A rank file of an earlier save in the same store. It holds fragments that have not changed since.
    package struct EarlierFile: Sendable, Hashable {
        /// The step in whose folder the file is.
        package var step: Int
        /// The save that wrote it.
        package var saveID: SaveID
        /// How many ranks that save had.
        package var rankCount: Int
        package var file: File

        /// Its key in the store.
        package var key: String { StepName.prefix(step) + file.name }

        /// One of the files of a checkpoint.
        init(_ file: File, of manifest: Manifest) {
            self.init(file, step: manifest.step, saveID: manifest.saveID, rankCount: manifest.files.count)
        }

        init(_ file: File, step: Int, saveID: SaveID, rankCount: Int) {
            self.step = step
            self.saveID = saveID
            self.rankCount = rankCount
            self.file = file
        }

        init(_ json: JSONObject) throws {
            step = try json.integer("step")
            saveID = try Manifest.saveID(json.string("save_id"))
            rankCount = try json.integer("ranks")
            file = try File(json.object("file"))
        }

        var json: JSONObject {
            [
                "step": .integer(Int64(step)), "save_id": .string(saveID.description), "ranks": .integer(Int64(rankCount)),
                "file": file.json,
            ]
        }
    }

    /// Where what one rank holds of a tensor with a layout is, if not in that rank's file.
    package struct Elsewhere: Sendable, Hashable {
        /// The rank whose pieces they are.
        package var rank: Int
        /// The file, counted on from ``Manifest/files`` through ``Manifest/earlier``.
        package var file: Int

        package init(rank: Int, file: Int) {
            self.rank = rank
            self.file = file
        }
    }

    /// A file by its number, which counts those of this save and then those of earlier ones.
    package func file(_ number: Int) -> EarlierFile? {
        if files.indices.contains(number) { return EarlierFile(files[number], of: self) }
        let index = number - files.count
        return earlier.indices.contains(index) ? earlier[index] : nil
    }

    /// The numbers of all files, those of earlier saves too.
    package var fileNumbers: Range<Int> { 0..<files.count + earlier.count }

    /// The names by which messages and plans tell the files apart, by number.
    package var fileNames: [String] { files.map(\.name) + earlier.map(\.key) }

    /// Every key of a store that the checkpoint needs besides its manifest.
    package var neededKeys: [String] { files.map { StepName.prefix(step) + $0.name } + earlier.map(\.key) }

    /// Puts what ranks have not written, because earlier files hold it, where it belongs.
    ///
    /// - Parameter reused: That of each rank, in the order of ranks.
    /// - Throws: ``CairnError/Code/mismatch`` when a rank names a tensor that the checkpoint does not have.
    mutating func refer(to reused: [[ReusedFragments]]) throws(CairnError) {
        var numbers: [EarlierFile: Int] = [:]
        var positions: [ExactString: Int] = [:]
        if reused.contains(where: { !$0.isEmpty }) {
            for (position, tensor) in tensors.enumerated() { positions[ExactString(tensor.name)] = position }
        }
        for (rank, groups) in reused.enumerated() {
            for group in groups {
                let number = numbers[group.file] ?? fileNumbers.upperBound
                if number == fileNumbers.upperBound {
                    numbers[group.file] = number
                    earlier.append(group.file)
                }
                for fragment in group.fragments {
                    try refer(rank, number, fragment, &positions)
                }
            }
        }
        tensors.sort { ExactString($0.name) < ExactString($1.name) }
    }

    private mutating func refer(
        _ rank: Int, _ number: Int, _ fragment: FragmentRequest, _ positions: inout [ExactString: Int]
    ) throws(CairnError) {
        let name = ExactString(fragment.name)
        let stored = Fragment(file: number, region: fragment.region)
        guard let position = positions[name] else {
            positions[name] = tensors.count
            tensors.append(
                StoredTensor(
                    name: fragment.name, scalarType: fragment.scalarType, shape: fragment.globalShape, fragments: [stored]))
            return
        }
        let (type, shape) = (tensors[position].scalarType, tensors[position].shape)
        guard shape == fragment.globalShape, type == fragment.scalarType else {
            throw CairnError(
                .mismatch, "the ranks disagree about a tensor, so nothing is committed",
                .init(
                    tensor: fragment.name, rank: rank, expected: "\(type)\(shape)",
                    found: "\(fragment.scalarType)\(fragment.globalShape)"))
        }
        guard tensors[position].layout != nil else {
            tensors[position].fragments.append(stored)
            return
        }
        // A rank's pieces of a tensor are in one file all together.
        let entry = Elsewhere(rank: rank, file: number)
        if tensors[position].elsewhere.last != entry { tensors[position].elsewhere.append(entry) }
    }

    /// Checks the table of earlier files, and what tensors say of it.
    func validateEarlier() throws(CairnError) {
        var keys = Set<ExactString>()
        for entry in earlier {
            guard entry.step >= 0, entry.saveID != saveID, (0..<entry.rankCount).contains(entry.file.rank),
                keys.insert(ExactString(entry.key)).inserted
            else {
                throw CairnError(
                    .malformed, "an earlier file is none, or stands twice", .init(found: "\(entry.key), save \(entry.saveID)"))
            }
            try Self.validate(entry.file)
        }
        for tensor in tensors where !tensor.elsewhere.isEmpty {
            guard tensor.layout != nil else {
                throw CairnError(.malformed, "only tensors with a layout have pieces elsewhere", .init(tensor: tensor.name))
            }
            for entry in tensor.elsewhere
            where !files.indices.contains(entry.rank) || !fileNumbers.contains(entry.file) || entry.file < files.count {
                throw CairnError(
                    .malformed, "pieces of a tensor are in a file that is not listed",
                    .init(
                        tensor: tensor.name, expected: "rank 0..<\(files.count), file \(files.count)..<\(fileNumbers.upperBound)",
                        found: "rank \(entry.rank), file \(entry.file)"))
            }
            for (first, second) in zip(tensor.elsewhere, tensor.elsewhere.dropFirst()) where first.rank >= second.rank {
                throw CairnError(.malformed, "the ranks of a tensor's pieces are not ascending", .init(tensor: tensor.name))
            }
        }
    }
}

/// What a rank has not written, because a file of an earlier save holds the same bytes.
package struct ReusedFragments: Sendable {
    package var file: Manifest.EarlierFile
    package var fragments: [FragmentRequest]

    package init(file: Manifest.EarlierFile, fragments: [FragmentRequest]) {
        self.file = file
        self.fragments = fragments
    }

    package var byteCount: Int {
        fragments.reduce(0) { $0 + ($1.scalarType.byteCount(elementCount: $1.region.elementCount) ?? 0) }
    }

    /// `[{"step", "save_id", "ranks", "file", "fragments": [[name, dtype, shape, offset, extent] …]} …]`
    static func json(_ groups: [ReusedFragments]) -> JSONValue {
        .array(
            groups.map { group in
                var object = group.file.json
                _ = object.append(
                    "fragments",
                    .array(
                        group.fragments.map {
                            .array([
                                .string($0.name), .string($0.scalarType.rawValue), integers($0.globalShape.extents),
                                integers($0.region.offsets), integers($0.region.shape.extents),
                            ])
                        }))
                return .object(object)
            })
    }

    /// - Throws: ``CairnError/Code/malformed`` for anything else than ``json(_:)`` makes.
    static func parse(_ json: JSONValue) throws(CairnError) -> [ReusedFragments] {
        do {
            return try json.asArray().map { element in
                let object = try element.asObject()
                return ReusedFragments(
                    file: try Manifest.EarlierFile(object),
                    fragments: try object.array("fragments").map { try fragment($0.asArray()) })
            }
        } catch let error as CairnError {
            throw error
        } catch {
            throw CairnError(.malformed, "the references to earlier files cannot be read", cause: error)
        }
    }

    private static func fragment(_ parts: [JSONValue]) throws -> FragmentRequest {
        guard parts.count == 5, let type = ScalarType(rawValue: try parts[1].asString()) else {
            throw CairnError(.malformed, "a reference is not [name, dtype, shape, offset, extent]")
        }
        func extents(_ json: JSONValue) throws -> [Int] { try json.asArray().map { try $0.asInteger() } }
        let request = FragmentRequest(
            name: try parts[0].asString(), scalarType: type, globalShape: try Shape(checking: extents(parts[2])),
            region: try Region(offsets: extents(parts[3]), shape: Shape(checking: extents(parts[4]))))
        guard request.region.isInside(request.globalShape),
            type.byteCount(elementCount: request.globalShape.elementCount) != nil
        else { throw CairnError(.malformed, "a reference lies outside its tensor", .init(tensor: request.name)) }
        return request
    }
}
