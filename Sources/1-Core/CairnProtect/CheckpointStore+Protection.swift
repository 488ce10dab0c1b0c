public import CairnBase
public import CairnCheckpoint
import CairnStorage

extension CheckpointStore {
    /// Protects the checkpoint of a step: parity files in its folder, which go with it. Of ranks that save together one calls
    /// it, after the commit.
    ///
    /// The manifest is among the protected files, so parity is written after the commit. A crash in between leaves a checkpoint
    /// with less parity, or without; protecting it anew or ``Protection/repair(concurrency:progress:)`` completes it.
    ///
    /// - Throws: ``CairnError/Code/notFound`` when there is none, what damage throws unless
    ///   ``ProtectionOptions/verifying`` is off, ``CairnError/Code/alreadyExists`` for one that is protected unless
    ///   ``ProtectionOptions/replacing``, ``CairnError/Code/mismatch`` when the step was saved anew meanwhile.
    @discardableResult
    public func protect(step: Int, options: ProtectionOptions = ProtectionOptions()) throws -> Protection {
        let reader = try open(step: step)
        let manifest = reader.manifest
        guard manifest.earlier.isEmpty else {
            throw CairnError(
                .unsupported, "the checkpoint refers to files of earlier saves, which parity beside it would not bring back",
                .init(
                    file: storage.location(of: StepName.prefix(step)), advice: "make it self-contained first: `cairn pack`"))
        }
        if options.verifying, let damage = try reader.verify(deep: true).damages.first {
            throw damage.error.adding(.init(advice: "repair the checkpoint first, or protect another"))
        }
        let writer = ProtectionWriter(
            storage: storage, folder: StepName.prefix(step), stem: .ofSave(digits: RankFileName.saveDigits(manifest.saveID)),
            names: manifest.files.map(\.name) + [CairnReader.manifestName], saveID: manifest.saveID, options: options)
        let protection = try writer.run()
        if let now = try? open(step: step).manifest.saveID, now != manifest.saveID {
            try storage.delete(protection.parityFileNames.map { StepName.prefix(step) + $0 })
            throw CairnError(
                .mismatch, "the step was saved anew while it was protected",
                .init(
                    file: storage.location(of: StepName.prefix(step)), expected: "save \(manifest.saveID)", found: "save \(now)"))
        }
        return protection
    }

    /// How the checkpoint of a step is protected; `nil` where it is not. The manifest may be lost or damaged.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` where parity of several saves is left and no manifest tells which is meant;
    ///   what the storage throws.
    public func protection(ofStep step: Int) throws(CairnError) -> Protection? {
        let folder = StepName.prefix(step)
        let found = try Protection.current(in: storage, folder: folder, storage.list(folder).map(\.key))
        guard found.count > 1 else { return found.first }
        throw CairnError(
            .invalidArgument, "parity of several saves is left, and no manifest tells which is meant",
            .init(
                file: storage.location(of: folder), found: found.compactMap(\.saveDigits).joined(separator: ", "),
                advice: "move the parity files of the others away"))
    }

    /// Brings back what a protected checkpoint has lost, and ends its quarantine when all of it is intact again.
    ///
    /// - Returns: How its files were before; `nil` where it is not protected.
    /// - Throws: As ``Protection/repair(concurrency:progress:)``.
    @discardableResult
    public func repair(
        step: Int, concurrency: Int? = nil,
        progress: @escaping @Sendable (Int) throws -> Void = { _ in }
    ) throws -> ProtectionReport? {
        guard let protection = try protection(ofStep: step) else { return nil }
        let report = try protection.repair(concurrency: concurrency, progress: progress)
        if let saveID = protection.index.saveID { KnownDamage.shared.forget(saveID, step: step, in: storage) }
        if try quarantine(ofStep: step) != nil, try open(step: step).verify(deep: true).isValid {
            try liftQuarantine(step: step)
        }
        return report
    }

    /// Saves a state and protects it. When it returns, the checkpoint and its parity are durable.
    ///
    /// Parity of what is not compressed is computed from the state while its file is written, and nothing is read back. What
    /// depends on the manifest is written after the commit: a crash in between leaves a checkpoint without parity.
    ///
    /// - Throws: As `save(_:step:options:)` and ``protect(step:options:)``. Where protecting fails, the checkpoint is there.
    @discardableResult
    public func save(
        _ state: TrainingState, step: Int, options: SaveOptions = SaveOptions(), protection: ProtectionOptions
    ) throws -> Manifest {
        var options = options
        // Parity covers the files of one save.
        options.reusesUnchanged = false
        let session = try beginSave(step: step, rankCount: 1, options: options)
        let content = SaveContent(state)
        var pass: SaveProtection?
        let manifest: Manifest
        do {
            try session.setGlobal(of: content)
            try session.write(content) { placement in
                pass = try SaveProtection(session, placement, protection)
                // Of its own fragments: those that are written are released.
                pass?.start(SaveContent(state))
            }
            try pass?.wait()
            manifest = try session.commit()
        } catch {
            pass?.discard()
            session.cancel()
            throw error
        }
        do {
            if let pass, try pass.finish(in: storage, folder: session.prefix) != nil { return manifest }
        } catch {
            pass?.discard()
            throw error
        }
        pass?.discard()
        var protection = protection
        // It was written just now.
        protection.verifying = false
        try protect(step: step, options: protection)
        return manifest
    }

    /// Saves a state and protects it without blocking the calling task's thread.
    @discardableResult
    public func save(
        _ state: TrainingState, step: Int, options: SaveOptions = SaveOptions(), protection: ProtectionOptions
    ) async throws -> Manifest {
        try await ThreadPool.shared.run { try self.save(state, step: step, options: options, protection: protection) }
    }
}

extension Protection {
    /// The protected sets of a folder, without those of saves that are not its checkpoint.
    static func current(
        in storage: any Storage, folder: String, _ keys: [String]
    ) throws(CairnError) -> [Protection] {
        let found = try find(in: storage, folder: folder, keys)
        guard found.contains(where: { $0.saveDigits != nil }), keys.contains(folder + CairnReader.manifestName) else {
            return found
        }
        do throws(CairnError) {
            let key = folder + CairnReader.manifestName
            let manifest = try Manifest(parsing: storage.readAll(key, limit: Manifest.maximumByteCount), file: key)
            let digits = RankFileName.saveDigits(manifest.saveID)
            return found.filter { $0.saveDigits == nil || $0.saveDigits == digits }
        } catch {
            guard error.code.isUnusable || error.code == .inputOutput else { throw error }
            return found
        }
    }
}
