public import CairnBase
import CairnCheckpoint
public import CairnStorage

/// Files that are protected by parity: any as many of their columns, or of the parity files, as there is parity may be lost,
/// and in every stripe as many blocks may be damaged.
///
/// ```swift
/// let store = CheckpointStore(path: "runs/kjv")
/// try store.save(state, step: 400, protection: ProtectionOptions(parityCount: 2))
/// let report = try store.protection(ofStep: 400)?.verify()
/// ```
///
/// Parity says how files were. After files have been changed on purpose they are protected anew, or repairing brings the old
/// ones back.
public struct Protection: Sendable {
    let storage: any Storage
    let folder: String
    let stem: ParityName.Stem
    let index: ParityIndex
    let record: ParityRecord

    /// The protected files, by their names from the folder of the parity files on.
    public var fileNames: [String] { index.layout.files.map(\.name) }
    /// How many columns the files are arranged in.
    public var columnCount: Int { index.dataCount }
    /// How many columns, or parity files, may be lost.
    public var parityCount: Int { index.parityCount }
    /// The bytes of the protected files.
    public var byteCount: Int { index.layout.byteCount }
    /// The bytes of all parity files.
    public var parityByteCount: Int { index.parityCount * record.byteCount }
    /// How many columns a file has bytes in: one, unless it is cut into ranges. When all of it is lost, it comes back where that is
    /// at most ``parityCount``. `nil` for a file that is not protected.
    public func columnCount(ofFile name: String) -> Int? {
        guard let number = index.layout.files.firstIndex(where: { ExactString($0.name) == ExactString(name) }) else { return nil }
        return index.layout.columns.count { $0.contains { $0.file == number } }
    }

    /// The names of the parity files, from the folder on.
    public var parityFileNames: [String] { (0..<parityCount).map { ParityName(stem, number: $0).text } }

    /// Whether a file with this name, or key, is a parity file.
    public static func isParity(_ name: String) -> Bool {
        let last = name.lastIndex(of: "/").map { String(name[name.index(after: $0)...]) } ?? name
        return ParityName(last) != nil
    }

    /// The save of a checkpoint of Cairn that is protected.
    package var saveDigits: String? { if case .ofSave(let digits) = stem { digits } else { nil } }

    func open() throws(CairnError) -> ProtectedBlocks {
        try ProtectedBlocks(storage, folder: folder, stem: stem, index: index, record: record)
    }

    // MARK: Verifying and repairing

    /// Finds out which files are lost or damaged, and how much more may be lost.
    ///
    /// - Parameters:
    ///   - deep: Reads everything; else only the lengths of the files are looked at, and what is around the parity.
    ///   - concurrency: How many threads read; `nil` for one a processor.
    ///   - progress: Called from any reading thread with the number of bytes just read; throwing stops.
    /// - Throws: What a storage throws that cannot be reached.
    public func verify(
        deep: Bool = true, concurrency: Int? = nil,
        progress: @escaping @Sendable (Int) throws -> Void = { _ in }
    ) throws -> ProtectionReport {
        try ProtectionScan(open(), isDeep: deep, concurrency: Self.width(concurrency), progress: progress).report
    }

    /// Brings back what is lost or damaged, parity included: every file that is not as it was protected is written anew, whole,
    /// and takes its old place when it is durable. What an interrupted repair leaves is no worse than before.
    ///
    /// - Parameters:
    ///   - concurrency: How many threads read, compute and write; `nil` for one a processor.
    ///   - progress: Called from any of them with a number of bytes; ``workByteCount`` in all.
    /// - Returns: How the files were before.
    /// - Throws: ``CairnError/Code/incomplete`` naming the files where more is lost than parity brings back; nothing is written
    ///   then. What the storage throws.
    @discardableResult
    public func repair(
        concurrency: Int? = nil, progress: @escaping @Sendable (Int) throws -> Void = { _ in }
    ) throws -> ProtectionReport {
        let blocks = try open()
        let width = Self.width(concurrency)
        let scan = try ProtectionScan(blocks, isDeep: true, concurrency: width, progress: progress)
        let report = scan.report
        try report.requireRepairable()
        if !report.isIntact {
            try FileRepair(blocks: blocks, scan: scan, concurrency: width, progress: progress).run()
        }
        return report
    }

    private static func width(_ concurrency: Int?) -> Int { max(1, concurrency ?? ThreadPool.processorCount) }

    /// The bytes that a repair reports to `progress`, at most.
    public var workByteCount: Int { (index.rowCount + 1) * index.layout.parityByteCount }
}

extension ProtectionReport {
    /// - Throws: ``CairnError/Code/incomplete`` naming what cannot be brought back.
    func requireRepairable() throws(CairnError) {
        let beyond = files.filter { !$0.isRepairable }
        guard let first = beyond.first else { return }
        let names = beyond.prefix(8).map(\.location).joined(separator: ", ") + (beyond.count > 8 ? ", …" : "")
        throw CairnError(
            .incomplete, "more is lost than parity brings back",
            .init(
                file: first.location, offset: first.damagedRanges.first?.lowerBound,
                expected: "at most \(parityCount) damaged blocks in a stripe",
                found: "\(parityCount - remainingLosses): \(names)",
                advice: "use another copy or an older checkpoint"))
    }
}

extension Protection {
    /// The protected sets of a folder, by what parity files are left.
    ///
    /// - Parameters:
    ///   - folder: A prefix of keys that ends in "/", or nothing for the storage itself.
    /// - Throws: What the storage throws that cannot be read, and ``CairnError/Code/unsupported`` for parity of another version.
    ///   Parity files that cannot be read are as good as none.
    public static func find(in storage: any Storage, folder: String = "") throws(CairnError) -> [Protection] {
        try find(in: storage, folder: folder, storage.list(folder).map(\.key))
    }

    /// The same where what is in the folder is known.
    package static func find(
        in storage: any Storage, folder: String, _ keys: [String]
    ) throws(CairnError) -> [Protection] {
        var candidates: [(stem: ParityName.Stem, numbers: [Int], index: [UInt8])] = []
        for key in keys where StorageKey.has(key, prefix: folder) {
            guard let name = ParityName(String(key.dropFirst(folder.count))),
                let found = try readable(key, storage), found.number == name.number
            else { continue }
            if let place = candidates.firstIndex(where: { $0.stem == name.stem && $0.index == found.index }) {
                candidates[place].numbers.append(name.number)
            } else {
                candidates.append((name.stem, [name.number], found.index))
            }
        }
        // Protecting anew that was cut off leaves files of two sets; both are of the same files.
        candidates.sort { ($1.numbers.count, $0.numbers.min() ?? 0) < ($0.numbers.count, $1.numbers.min() ?? 0) }
        var found: [Protection] = []
        for candidate in candidates where !found.contains(where: { $0.stem == candidate.stem }) {
            let location = storage.location(of: folder + ParityName(candidate.stem, number: candidate.numbers[0]).text)
            let index: ParityIndex
            do throws(CairnError) {
                index = try ParityIndex(parsing: candidate.index, file: location)
            } catch {
                if error.code == .unsupported { throw error }
                continue
            }
            let record = ParityRecord(
                ParityRecord.Found(number: 0, index: candidate.index), blockBytes: index.layout.parityByteCount)
            found.append(
                Protection(storage: storage, folder: folder, stem: candidate.stem, index: index, record: record))
        }
        return found
    }

    /// What is left of the index in a file; `nil` where nothing can be read of it.
    private static func readable(_ key: String, _ storage: any Storage) throws(CairnError) -> ParityRecord.Found? {
        do throws(CairnError) {
            return try ParityRecord.read(storage.open(key))
        } catch {
            guard error.code.isDamage || error.code == .notFound else { throw error }
            return nil
        }
    }
}
