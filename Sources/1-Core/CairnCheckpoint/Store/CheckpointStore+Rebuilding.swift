public import CairnBase
import CairnStorage

extension CheckpointStore {
    /// Rebuilds the manifest of a checkpoint that lost it, or whose manifest is damaged, from its rank files, and commits it.
    ///
    /// Rank 0's file repeats what the manifest says beyond files and tensors; the headers of all files say the rest. Every
    /// chunk is read and verified first. What cannot be verified without the old manifest are the headers themselves.
    ///
    /// - Parameters:
    ///   - saveID: Which save to rebuild, where the folder holds whole ones of several.
    ///   - progress: Called from any reading thread with the number of bytes just read; throwing stops.
    /// - Returns: The manifest, as it was.
    /// - Throws: ``CairnError/Code/alreadyExists`` when the manifest is readable, ``CairnError/Code/incomplete`` naming the
    ///   rank file that is missing, ``CairnError/Code/invalidArgument`` when several saves are whole and none was chosen,
    ///   and what damaged rank files throw. Nothing is changed then.
    @discardableResult
    public func rebuildManifest(
        step: Int, saveID: SaveID? = nil, progress: @escaping @Sendable (Int) throws -> Void = { _ in }
    ) throws(CairnError) -> Manifest {
        try requireNoReadableManifest(step)
        let candidates = try SaveCandidate.all(in: storage, prefix: StepName.prefix(step))
            .filter { saveID == nil || $0.saveID == saveID }
        let candidate = try choose(candidates, step)
        let manifest = try candidate.manifest(step: step)
        for file in candidate.files {
            if let damage = try file.verifyChunks(progress: progress).damages.first { throw damage.error }
        }
        let bytes = try manifest.encoded()
        guard !manifest.earlier.isEmpty else {
            try storage.publish(bytes, as: StepName.prefix(step) + CairnReader.manifestName)
            return manifest
        }
        // Until the manifest is there, nothing keeps the files that it refers to.
        try DeletionLock.hold(storage) { _ throws(CairnError) in
            for entry in manifest.earlier {
                _ = try RankFile.open(
                    storage.open(entry.key), location: storage.location(of: entry.key), expected: entry.file)
            }
            try storage.publish(bytes, as: StepName.prefix(step) + CairnReader.manifestName)
        }
        return manifest
    }

    private func requireNoReadableManifest(_ step: Int) throws(CairnError) {
        let key = StepName.prefix(step) + CairnReader.manifestName
        do throws(CairnError) {
            _ = try open(step: step)
        } catch {
            // Another version's manifest is as good as ours, and an unreadable disk says nothing about it.
            guard error.code.isUnusable, error.code != .unsupported else { throw error }
            return
        }
        throw CairnError(
            .alreadyExists, "the manifest is there and can be read: there is nothing to rebuild",
            .init(file: storage.location(of: key)))
    }

    /// The only save that is whole.
    private func choose(_ candidates: [SaveCandidate], _ step: Int) throws(CairnError) -> SaveCandidate {
        let folder = storage.location(of: StepName.prefix(step))
        let whole = candidates.filter { $0.flaw == nil }
        if whole.count > 1 {
            throw CairnError(
                .invalidArgument, "several saves of this step are whole: say which one to rebuild",
                .init(file: folder, expected: "one save id", found: whole.map(\.saveID.description).joined(separator: ", ")))
        }
        if let only = whole.first { return only }
        // The save that came furthest says best what is missing.
        guard let flaw = candidates.max(by: { $0.files.count < $1.files.count })?.flaw else {
            throw CairnError(
                .notFound, "there are no rank files to rebuild a manifest from",
                .init(file: folder, advice: "use another checkpoint"))
        }
        throw flaw
    }
}

/// The rank files of one save, as they are found in a folder without a usable manifest.
private struct SaveCandidate {
    let saveID: SaveID
    /// Those that can be read, in the order of ranks.
    private(set) var files: [RankFile] = []
    /// Why the save cannot be rebuilt, if so.
    private(set) var flaw: CairnError?

    /// Every save that has files whose names begin with `prefix`.
    static func all(in storage: any Storage, prefix: String) throws(CairnError) -> [SaveCandidate] {
        var candidates: [SaveID: SaveCandidate] = [:]
        var unreadable: [CairnError] = []
        for entry in try storage.list(prefix) where !entry.isTemporary && entry.key.hasSuffix(".safetensors") {
            if ParityFileName.parse(entry.key.dropFirst(prefix.count)) != nil { continue }
            do throws(CairnError) {
                let location = storage.location(of: entry.key)
                let file = try RankFile.open(storage.open(entry.key), location: location, expected: nil)
                let id = file.metadata.saveID
                candidates[id, default: SaveCandidate(saveID: id)].files.append(file)
            } catch {
                guard error.code.isUnusable else { throw error }
                unreadable.append(error)
            }
        }
        // Files of which not even the save is known.
        if candidates.isEmpty, let error = unreadable.first { throw error }
        return candidates.values.sorted { $0.saveID.description < $1.saveID.description }.map { found in
            var candidate = found
            candidate.files.sort { $0.metadata.rank < $1.metadata.rank }
            candidate.flaw = candidate.findFlaw(storage, prefix, unreadable)
            return candidate
        }
    }

    private init(saveID: SaveID) { self.saveID = saveID }

    private func findFlaw(_ storage: any Storage, _ prefix: String, _ unreadable: [CairnError]) -> CairnError? {
        guard let count = files.first?.metadata.rankCount else { return nil }
        for file in files where file.metadata.rankCount != count || file.metadata.rank >= count {
            return CairnError(
                .mismatch, "the files of one save disagree about the number of ranks",
                .init(
                    file: file.location, rank: file.metadata.rank, expected: "one of \(count) ranks",
                    found: "one of \(file.metadata.rankCount)"))
        }
        for (first, second) in zip(files, files.dropFirst()) where first.metadata.rank == second.metadata.rank {
            return CairnError(
                .mismatch, "two files are of one rank",
                .init(file: second.location, rank: second.metadata.rank, found: first.location))
        }
        let present = Set(files.map(\.metadata.rank))
        guard present.count < count, let missing = (0..<count).first(where: { !present.contains($0) }) else { return nil }
        let location = storage.location(of: prefix + RankFileName.make(rank: missing, saveID: saveID))
        return unreadable.first { $0.context.file == location }?.adding(.init(rank: missing))
            ?? CairnError(
                .incomplete, "a rank file is missing, so the manifest cannot be rebuilt",
                .init(
                    file: location, rank: missing, expected: "the files of \(count) ranks", found: "\(present.count)",
                    advice: "bring the file back, or use another checkpoint"))
    }

    /// The manifest of the save, as it was.
    func manifest(step: Int) throws(CairnError) -> Manifest {
        guard let first = files.first, let state = first.metadata.state else {
            throw CairnError(
                .incomplete, "the file of rank 0 does not repeat the manifest", .init(file: files.first?.location, rank: 0))
        }
        var manifest = try Manifest(parsing: Array(state.utf8), file: first.location, isWhole: false)
        for file in files where file.metadata.step != step || manifest.step != step || manifest.saveID != saveID {
            throw CairnError(
                .mismatch, "the file belongs to another save",
                .init(
                    file: file.location, rank: file.metadata.rank, expected: "save \(saveID), step \(step)",
                    found: "save \(manifest.saveID), step \(file.metadata.step)"))
        }
        manifest.files = []
        for file in files { manifest.files.append(try file.manifestEntry()) }
        if manifest.layouts.isEmpty {
            manifest.tensors = try Manifest.tensors(of: files.map(\.fragments))
        }
        try manifest.refer(to: files.map(\.metadata.reused))
        try manifest.validate()
        try requireFragments(of: manifest)
        return manifest
    }

    /// Checks that the files hold what follows from layouts.
    private func requireFragments(of manifest: Manifest) throws(CairnError) {
        guard let index = try manifest.layoutIndex() else { return }
        for (position, tensor) in manifest.tensors.enumerated() {
            for fragment in index.fragments(of: tensor, at: position, intersecting: nil) ?? []
            where files.indices.contains(fragment.file)
                && files[fragment.file].fragment(of: tensor.name, region: fragment.region) == nil
            {
                throw CairnError(
                    .incomplete, "the file lacks a fragment that the layout says it has",
                    .init(
                        file: files[fragment.file].location, tensor: tensor.name, rank: fragment.file,
                        expected: "\(fragment.region)"))
            }
        }
    }
}
