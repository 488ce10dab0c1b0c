import CairnBase
import CairnCheckpoint
import CairnStorage
import CairnTensor

extension TorchReader {
    /// Opens what each rank saved as one state: tensors that are sharded over ranks are put together from their parts, everything
    /// else must be alike.
    ///
    /// - Parameter keys: The files in the order of their ranks.
    /// - Throws: ``CairnError/Code/incomplete`` when a rank's file is missing, ``CairnError/Code/mismatch`` when ranks
    ///   contradict each other.
    convenience init(storage: any Storage, ranks keys: [String], source: String) throws(CairnError) {
        try Self.checkComplete(keys, source: source)
        var gathered = GatheredRanks(source: source)
        for key in keys { try gathered.add(Self.contents(of: FileWindow(storage, key), part: nil), of: key) }
        try self.init(gathered.contents(), files: keys, source: source)
    }

    /// Throws where the numbers in the names say that files are missing.
    private static func checkComplete(_ keys: [String], source: String) throws(CairnError) {
        let names = keys.compactMap { TorchDirectory.RankName($0) }
        guard let first = names.first, names.count == keys.count else { return }
        let count = first.count ?? (names.map(\.rank).max() ?? 0) + 1
        let present = Set(names.map(\.rank))
        // Some number up to one more than there are files is missing, however many the names promise.
        guard let missing = (0..<min(count, keys.count + 1)).first(where: { !present.contains($0) }) else { return }
        throw CairnError(
            .incomplete, "the file of a rank is missing",
            .init(
                file: source, rank: missing,
                expected: first.pattern.split(separator: "#", omittingEmptySubsequences: false)
                    .joined(separator: "\(missing)"),
                found: "\(keys.count) of \(count) files"))
    }
}

/// What the files of ranks hold together.
struct GatheredRanks {
    /// A tensor as the ranks have it.
    private struct Member {
        var entry: TorchContents.TensorEntry
        var file: String
        /// Where in the mesh the parts are that were met, with the elements there.
        var entries: [[Int]: TorchContents.TensorEntry] = [:]
    }

    private let source: String
    private var members: [Member] = []
    private var positions: [ExactString: Int] = [:]
    private var first: TorchContents?
    private var skippedEntries: [String] = []
    private var skippedTensorCount = 0
    private var storages: [ZipRecord] = []
    private var comparedByteCount = 0
    private var files: [String] = []
    private var rankCount: Int?

    /// The most bytes of tensors that every rank has which are compared.
    private static let greatestComparison = 1 << 30
    private static let blockByteCount = 4 << 20

    init(source: String) { self.source = source }

    mutating func add(_ contents: TorchContents, of file: String) throws(CairnError) {
        files.append(file)
        storages += contents.storages
        skippedTensorCount += contents.skippedTensorCount
        skippedEntries += (contents.skippedEntries + contents.remarks).map { "\(file): \($0)" }
        if let first {
            let isSame =
                first.values.map(\.path) == contents.values.map(\.path)
                && first.values.map(\.value) == contents.values.map(\.value)
            if !isSame { skippedEntries.append("\(file) has other values than \(files[0]), which are left out") }
        } else {
            first = contents
        }
        for entry in contents.tensors {
            let name = StateNames.joined(entry.path)
            do throws(CairnError) {
                try add(entry, name: name, of: file)
            } catch {
                throw error.adding(.init(file: file, tensor: name))
            }
        }
    }

    private mutating func add(_ entry: TorchContents.TensorEntry, name: String, of file: String) throws(CairnError) {
        if let count = entry.part?.rankCount { rankCount = max(rankCount ?? 0, count) }
        guard let position = positions[ExactString(name)] else {
            positions[ExactString(name)] = members.count
            var member = Member(entry: Self.placed(entry, file), file: file)
            if let part = entry.part { member.entries[part.coordinate] = member.entry }
            members.append(member)
            if files.count > 1 { skippedEntries.append("\(name) is not in \(files[0]) but in \(file)") }
            return
        }
        let known = members[position].entry
        guard known.content.scalarType == entry.content.scalarType, known.content.shape == entry.content.shape,
            (known.part == nil) == (entry.part == nil)
        else {
            throw CairnError(
                .mismatch, "ranks have different tensors of one name",
                .init(
                    expected: "\(known.content.scalarType)\(known.content.shape) as in \(members[position].file)",
                    found: "\(entry.content.scalarType)\(entry.content.shape)",
                    advice: "gather parts that do not say where they belong by --rules"))
        }
        guard let part = entry.part, let knownPart = known.part else {
            if try !isSame(known, entry) {
                skippedEntries.append("\(file) has another \(name) than \(members[position].file), which is left out")
                skippedTensorCount += 1
            }
            return
        }
        // Shards without a mesh are told apart by their places alone.
        guard knownPart.rankCount != nil, let same = members[position].entries[part.coordinate] else {
            members[position].entries[part.coordinate.isEmpty ? [files.count] : part.coordinate] = Self.placed(entry, file)
            return
        }
        guard try isSame(same, entry) else {
            throw CairnError(
                .mismatch, "ranks have different elements where they should have the same",
                .init(
                    expected: "what \(members[position].file) has", found: part.division,
                    advice: "gather parts that do not say where they belong by --rules"))
        }
    }

    /// The same with the file's name at every piece, and views told apart from those of other files.
    private static func placed(_ entry: TorchContents.TensorEntry, _ file: String) -> TorchContents.TensorEntry {
        var placed = entry
        placed.file = file
        if var view = placed.view {
            view.storage = file + "/" + view.storage
            placed.view = view
        }
        if let assembled = entry.assembled {
            let named = AssembledTensor(
                scalarType: assembled.scalarType, shape: assembled.shape,
                pieces: assembled.pieces.map { piece in
                    var piece = piece
                    piece.file = file
                    return piece
                })
            placed.content = named
            placed.assembled = named
        }
        return placed
    }

    /// Whether what two ranks have is alike. Large contents are not compared.
    private mutating func isSame(
        _ one: TorchContents.TensorEntry, _ other: TorchContents.TensorEntry
    ) throws(CairnError) -> Bool {
        let regions = one.assembled?.pieces.map(\.region) ?? [Region(whole: one.content.shape)]
        for region in regions {
            let byteCount = one.content.scalarType.byteCount(elementCount: region.elementCount) ?? 0
            comparedByteCount = comparedByteCount.adding(clamped: byteCount)
            guard comparedByteCount <= Self.greatestComparison else { return true }
            for part in one.content.slabs(of: region, byteLimit: Self.blockByteCount) {
                guard try one.content.bytes(of: part) == other.content.bytes(of: part) else { return false }
            }
        }
        return true
    }

    /// All of it.
    ///
    /// - Throws: ``CairnError/Code/incomplete`` when parts are missing.
    func contents() throws(CairnError) -> TorchContents {
        if let rankCount, rankCount > files.count {
            throw CairnError(
                .incomplete, "files of ranks are missing",
                .init(file: source, expected: "\(rankCount), as the tensors say", found: "\(files.count)"))
        }
        var contents = TorchContents()
        for member in members {
            var entry = member.entry
            if let part = entry.part, part.reduction == nil {
                let pieces = member.entries.sorted { $0.key.lexicographicallyPrecedes($1.key) }
                    .flatMap { $0.value.assembled?.pieces ?? [] }
                entry.content = try assembled(pieces, part, StateNames.joined(entry.path))
                entry.part = nil
                entry.assembled = nil
            }
            contents.tensors.append(entry)
        }
        contents.values = first?.values ?? []
        contents.skippedEntries = skippedEntries
        contents.skippedTensorCount = skippedTensorCount
        contents.storages = storages
        contents.structure = first?.structure ?? .dictionary([])
        // What only later ranks have stands under its name.
        if case .dictionary(let nested) = contents.structure {
            let others = members.indices.dropFirst(first?.tensors.count ?? 0).map { position in
                StateNode.Member(
                    key: StateKey(StateNames.joined(members[position].entry.path)), node: .tensor(String(position)))
            }
            contents.structure = .dictionary(nested + others)
        }
        if comparedByteCount > Self.greatestComparison {
            contents.skippedEntries.append("not all that several ranks have was compared: the first rank's is taken")
        }
        return contents
    }

    private func assembled(
        _ pieces: [AssembledTensor.Piece], _ part: RankPart, _ name: String
    ) throws(CairnError) -> AssembledTensor {
        // Replicas of a part are at the same place.
        var seen: Set<Region> = []
        let distinct = pieces.filter { seen.insert($0.region).inserted }
        do throws(CairnError) {
            try FragmentCoverage.check(distinct.map(\.region), of: part.shape)
        } catch {
            throw CairnError(
                .incomplete, "the ranks' parts do not make up the tensor",
                .init(file: source, tensor: name, expected: "\(part.scalarType)\(part.shape)", found: part.division),
                cause: error)
        }
        return AssembledTensor(scalarType: part.scalarType, shape: part.shape, pieces: distinct)
    }
}
