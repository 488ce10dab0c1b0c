package import CairnBase
package import CairnLayout
package import CairnStorage
import CairnTensor
import Synchronization

/// One checkpoint being saved by one or several ranks.
///
/// Each rank writes its own file, in any order and from any thread; then one of them commits. Until then nothing is there
/// that looks like a checkpoint, and an older one of the same step stays as it was.
package final class SaveSession: Sendable {
    /// What one rank brought.
    private struct Contribution {
        var file: Manifest.File
        var fragments: [StoredFragment]
        var reused: [ReusedFragments]
    }

    private struct State {
        var contributions: [Int: Contribution] = [:]
        /// What ranks of this process have not written because earlier files hold it.
        var reused: [Int: [ReusedFragments]] = [:]
        /// What will be known of their fragments once their files are there.
        var memories: [Int: SaveMemory] = [:]
        /// The pins of this save that may be there.
        var pins: Set<String> = []
        var values: [NamedValue] = []
        var ties: [Manifest.Tie] = []
        /// The tensors whose fragments follow from layouts, sorted by name.
        var placed: [PlacedTensor] = []
        var ended = false
        /// Whether the manifest may be in place although publishing it failed.
        var mayBeCommitted = false
        /// Whether publishing the manifest took another one's place.
        var hasReplaced = false
        /// What was in the way and unusable.
        var setAside: SetAside?
        /// What belonged to the checkpoint whose place this one took.
        var stale: [String] = []
        /// Where its manifest is until those are deleted.
        var replaced: String?
    }

    /// The step that is saved.
    package let step: Int
    /// How many ranks write.
    package let rankCount: Int
    /// The id of this save.
    package let saveID: SaveID

    /// How the save compresses.
    package var compression: Compression { options.compression }
    /// The bytes that one checksum covers.
    package var chunkByteCount: Int { options.chunkByteCount }

    package let storage: any Storage
    package let prefix: String
    private let options: SaveOptions
    /// When the save began, in seconds since 1970. Known from the start, so that rank 0's file can repeat it.
    private let time: Double
    private let state = Mutex(State())

    init(
        storage: any Storage, prefix: String, step: Int, rankCount: Int, options: SaveOptions
    ) throws(CairnError) {
        guard rankCount > 0, step >= 0 else {
            throw CairnError(
                .invalidArgument, "a save needs a step and at least one rank",
                .init(found: "step \(step), \(rankCount) ranks"))
        }
        guard RankFileMetadata.isAllowed(chunkByteCount: options.chunkByteCount) else {
            throw CairnError(
                .invalidArgument, "the chunk size is not allowed",
                .init(expected: "a power of two from 4096 to 67108864", found: "\(options.chunkByteCount)"))
        }
        let saveID = options.saveID ?? SaveID()
        let present = try PresentManifest(storage, prefix: prefix)
        guard !present.isInTheWay || options.replacing else {
            throw CairnError.stepExists(storage.location(of: prefix), step)
        }
        // The files' names come from the id: with the old one's id they would overwrite its files.
        guard present.manifest.map({ RankFileName.saveDigits($0.saveID) }) != RankFileName.saveDigits(saveID) else {
            throw CairnError(
                .invalidArgument, "the checkpoint that is replaced has this save id already",
                .init(file: storage.location(of: prefix), found: "\(saveID)", advice: "give every save an id of its own"))
        }
        self.storage = storage
        self.prefix = prefix
        self.step = step
        self.rankCount = rankCount
        self.options = options
        time = options.time ?? currentTime()
        self.saveID = saveID
    }

    /// Sets the values and ties that belong to the whole checkpoint. Call it before rank 0 writes.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` when rank 0 has written already, whose file holds a copy of them.
    package func setGlobal(
        values: [NamedValue], ties: [(name: String, target: String)] = []
    ) throws(CairnError) {
        let tooLate = state.withLock { state in
            guard state.contributions[0] == nil else { return true }
            state.values = Self.sorted(values)
            state.ties = ties.map { Manifest.Tie(name: $0.name, target: $0.target) }
                .sorted { ExactString($0.name) < ExactString($1.name) }
            return false
        }
        if tooLate { throw CairnError(.invalidArgument, "global values are set before rank 0 writes") }
    }

    /// Sets the tensors whose fragments follow from layouts: ranks write exactly what the ``WritePlan`` gives them.
    package func setPlaced(_ tensors: [PlacedTensor]) {
        state.withLock { $0.placed = tensors.sorted { ExactString($0.name) < ExactString($1.name) } }
    }

    /// What the commit set aside because it was unusable and in the way.
    package var setAside: SetAside? { state.withLock(\.setAside) }

    /// The file that a rank has brought.
    package func file(ofRank rank: Int) -> Manifest.File? { state.withLock { $0.contributions[rank]?.file } }

    /// Takes no more part, and leaves everything as it is.
    package func end() { state.withLock { $0.ended = true } }

    /// Writes the file of `rank`: durable when it returns, but no checkpoint yet.
    ///
    /// - Parameters:
    ///   - fragments: What this rank holds. A fragment that several ranks hold is written by one of them.
    ///   - values: Values that only this rank has.
    package func write(
        rank: Int, fragments: [TensorFragment], values: [NamedValue] = []
    ) throws {
        try write(SaveContent(rank: rank, fragments, values: values))
    }

    /// Writes the file of the content's rank on this thread and helpers: durable when it returns, but no checkpoint yet.
    ///
    /// - Parameter willWrite: Told where each fragment goes before the first is written.
    package func write(_ content: SaveContent, willWrite: (RankFilePlacement) throws -> Void = { _ in }) throws {
        do {
            let content = try withoutUnchanged(content)
            let builder = try self.builder(of: content)
            do {
                try willWrite(builder.placement)
                // Threads that wait for the device come on top of those that compute.
                let width = options.concurrency == 1 ? 1 : max(options.concurrency, builder.usefulConcurrency)
                let writer = RankFileWriter(threads: .waiting, width: width, progress: options.progress)
                try writer.write(content.fragments, to: builder)
                try builder.finish()
            } catch {
                builder.discard()
                throw error
            }
        } catch let error as CairnError {
            throw error.adding(.init(rank: content.rank))
        }
    }

    /// What the file of a rank says of itself.
    func metadata(ofRank rank: Int, values: [NamedValue]) throws(CairnError) -> RankFileMetadata {
        guard (0..<rankCount).contains(rank) else {
            throw CairnError(
                .invalidArgument, "no such rank takes part in this save",
                .init(rank: rank, expected: "0..<\(rankCount)"))
        }
        return RankFileMetadata(
            saveID: saveID, step: step, rank: rank, rankCount: rankCount, chunkByteCount: options.chunkByteCount,
            values: Self.sorted(values), state: rank == 0 ? try globalText() : nil, reused: reused(ofRank: rank))
    }

    /// What a rank of this process has not written because earlier files hold it.
    func reused(ofRank rank: Int) -> [ReusedFragments] { state.withLock { $0.reused[rank] ?? [] } }

    /// What a save remembers for the next one.
    var known: KnownFragments? { options.known }

    /// Whether tensors that have not changed are referred to.
    var reusesUnchanged: Bool { options.reusesUnchanged }

    /// How many threads compare.
    var concurrency: Int { options.concurrency }

    func noteProgress(_ byteCount: Int) throws { try options.progress(byteCount) }

    func note(_ reused: [ReusedFragments], ofRank rank: Int) { state.withLock { $0.reused[rank] = reused } }

    func remember(_ memory: SaveMemory, ofRank rank: Int) { state.withLock { $0.memories[rank] = memory } }

    func note(pin key: String) { _ = state.withLock { $0.pins.insert(key) } }

    /// Takes the file of a rank into the save.
    func accept(
        rank: Int, _ file: Manifest.File, _ fragments: [StoredFragment], reused: [ReusedFragments]? = nil
    ) throws(CairnError) {
        let accepted = state.withLock { state in
            guard !state.ended, state.contributions[rank] == nil else { return false }
            state.contributions[rank] = Contribution(
                file: file, fragments: fragments, reused: reused ?? state.reused[rank] ?? [])
            return true
        }
        if accepted, let memory = state.withLock({ $0.memories.removeValue(forKey: rank) }) {
            let own = Manifest.EarlierFile(file, step: step, saveID: saveID, rankCount: rankCount)
            known?.replace(memory.known(writtenTo: own), ofRank: rank)
        }
        guard accepted else {
            throw CairnError(.invalidArgument, "this rank wrote already, or the save has ended", .init(rank: rank))
        }
    }

    /// Makes what the ranks wrote a checkpoint. When it returns, the checkpoint is durable.
    ///
    /// Files of the checkpoint that it replaces are deleted, and no others: those may belong to a save that is running. One that
    /// is unusable is set aside instead, and ``Manifest/setAside`` of what is returned says so.
    ///
    /// - Returns: The manifest that committed it.
    /// - Throws: ``CairnError/Code/incomplete`` when a rank has not written or elements of a tensor are missing,
    ///   ``CairnError/Code/mismatch`` when ranks disagree about a tensor, ``CairnError/Code/alreadyExists`` when another
    ///   save has committed this step meanwhile and the options do not allow to replace it; nothing is committed then.
    @discardableResult
    package func commit() throws -> Manifest {
        let manifest = try publish()
        removeReplaced()
        return manifest
    }

    /// The same without deleting anything of the checkpoint that is replaced: ``removeReplaced()`` does that, which can take
    /// longer than the commit, and the new checkpoint is durable before.
    package func publish() throws -> Manifest {
        let manifest = try self.manifest()
        let bytes = try manifest.encoded()
        var present = try PresentManifest(storage, prefix: prefix)
        // A commit that failed late may be tried again.
        if present.manifest?.saveID == saveID { present = .none }
        guard !present.isInTheWay || options.replacing else {
            throw CairnError.stepExists(storage.location(of: prefix), step)
        }
        var aside: SetAside?
        if present.isWorthKeeping, !options.discardsUnusable {
            aside = try SetAside.keep(present, storage, prefix: prefix, step: step)
        }
        // Another save may be taking references from the checkpoint that goes now.
        var replaced: String?
        if aside == nil, let old = present.manifest {
            let key = prefix + RankFileName.makeReplaced(old.saveID)
            state.withLock { $0.replaced = key }
            try storage.publish(present.bytes, as: key)
            replaced = key
        }
        do {
            try storage.publish(bytes, as: prefix + CairnReader.manifestName)
        } catch {
            state.withLock { state in
                state.mayBeCommitted = true
                if present.exists { state.hasReplaced = true }
            }
            throw error
        }
        var stale = aside == nil ? (present.manifest?.neededKeys ?? []) + present.parityKeys : []
        // What was said of a checkpoint that is no longer there.
        if present.isMarked { stale.append(prefix + StepName.quarantineName) }
        state.withLock { state in
            state.ended = true
            state.setAside = aside
            state.stale = stale
            state.replaced = replaced
            if options.reusesUnchanged {
                for rank in 0..<rankCount { state.pins.insert(SavePin.key(prefix: prefix, rank: rank, saveID: saveID)) }
            }
        }
        var committed = manifest
        committed.setAside = aside
        return committed
    }

    /// Deletes the files of the checkpoint that ``publish()`` replaced, as far as nothing else refers to them. A failure to
    /// delete loses nothing: the collector finds the rest later.
    package func removeReplaced() {
        let (stale, replaced, pins) = state.withLock { state in
            defer {
                state.stale = []
                state.replaced = nil
                state.pins = []
            }
            return (state.stale, state.replaced, state.pins)
        }
        // The manifest keeps what they kept.
        if !pins.isEmpty { try? storage.delete(pins.sorted()) }
        guard !stale.isEmpty || replaced != nil else { return }
        try? DeletionLock.hold(storage) { _ throws(CairnError) in
            if let replaced { try storage.delete([replaced]) }
            let needed = try NeededFiles(in: storage)
            let unneeded = stale.filter { !needed.contains($0) }
            if !unneeded.isEmpty { try storage.delete(unneeded) }
        }
    }

    /// Gives up: removes the files that were written for this save, as far as the storage allows.
    ///
    /// After a ``commit()`` that failed so late that its manifest is in place, a new checkpoint is removed again; one
    /// that replaced another stays, since that other one is gone.
    package func cancel() {
        let (files, isRemovable, pins, replaced) = state.withLock { state -> ([String], Bool, Set<String>, String?) in
            guard !state.ended else { return ([], false, [], nil) }
            state.ended = true
            return (
                state.contributions.values.map { prefix + $0.file.name }, state.mayBeCommitted && !state.hasReplaced,
                state.pins, state.replaced
            )
        }
        defer { if !pins.isEmpty { try? storage.delete(pins.sorted()) } }
        guard !files.isEmpty else { return }
        do throws(CairnError) {
            let key = prefix + CairnReader.manifestName
            let manifest = try Manifest(parsing: storage.readAll(key, limit: Manifest.maximumByteCount), file: key)
            if manifest.saveID == saveID {
                guard isRemovable else { return }
                // Another save may have taken references from it already: then its files stay.
                try DeletionLock.hold(storage) { _ throws(CairnError) in
                    try storage.delete([key])
                    let needed = try NeededFiles(in: storage)
                    try storage.delete(files.filter { !needed.contains($0) })
                }
                return
            }
        } catch {
            // A manifest that cannot be read may name the files.
            guard error.code == .notFound else { return }
        }
        // The checkpoint that was to be replaced is still there under its own name.
        try? storage.delete(files + (replaced.map { [$0] } ?? []))
    }

    private static func sorted(_ values: [NamedValue]) -> [NamedValue] {
        values.sorted { ExactString($0.name) < ExactString($1.name) }
    }

    func fileName(_ rank: Int) -> String { RankFileName.make(rank: rank, saveID: saveID) }

    /// What the ranks must agree on, as the manifest of a checkpoint without files. Rank 0's file repeats it.
    ///
    /// - Parameter time: The time to give instead of this rank's.
    func globalText(time: Double? = nil) throws(CairnError) -> String {
        let (values, ties, placed) = state.withLock { ($0.values, $0.ties, $0.placed) }
        var manifest = manifest(values, ties, files: [])
        if let time { manifest.time = time }
        try manifest.place(placed)
        return String(decoding: try manifest.encoded(packingAbove: .max), as: UTF8.self)
    }

    private func manifest(
        _ values: [NamedValue], _ ties: [Manifest.Tie], files: [Manifest.File]
    ) -> Manifest {
        Manifest(
            producer: Producer.name, saveID: saveID, step: step, time: time, metrics: options.metrics,
            lineage: options.lineage, files: files, tensors: [], ties: ties, values: values)
    }

    private func manifest() throws(CairnError) -> Manifest {
        let state = state.withLock { $0 }
        guard !state.ended else { throw CairnError(.invalidArgument, "the save has ended already") }
        for rank in 0..<rankCount where state.contributions[rank] == nil {
            throw CairnError(
                .incomplete, "a rank has not written its part, so nothing is committed", .init(rank: rank))
        }
        var manifest = manifest(
            state.values, state.ties, files: (0..<rankCount).compactMap { state.contributions[$0]?.file })
        if state.placed.isEmpty {
            manifest.tensors = try Manifest.tensors(
                of: (0..<rankCount).map { state.contributions[$0]?.fragments ?? [] })
        } else {
            try manifest.place(state.placed)
        }
        try manifest.refer(to: (0..<rankCount).map { state.contributions[$0]?.reused ?? [] })
        try manifest.validate()
        return manifest
    }
}
