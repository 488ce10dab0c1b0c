import CairnBase
import CairnCheckpoint
public import CairnStorage
import Synchronization

/// How files are protected.
public struct ProtectionOptions: Sendable {
    /// How many columns, or parity files, may be lost: the number of parity files, from 1.
    public var parityCount = 2
    /// How many columns the files are arranged in; `nil` for one a file, at most 32, or eight ranges. Together with
    /// ``parityCount`` at most 255.
    public var columnCount: Int?
    /// How the files are arranged in columns.
    public var layout = ProtectionLayout.automatic
    /// The bytes of a block, which is what is rebuilt: a power of two from 512 to 4194304.
    package var blockByteCount = 256 << 10
    /// Takes the place of parity that is there already.
    public var replacing = false
    /// Reads and checks a checkpoint of Cairn before it is protected: parity of damaged files keeps the damage.
    public var verifying = true
    /// How many threads read, compute and write.
    public var concurrency = ThreadPool.processorCount
    /// Called from any of them with the number of bytes of data just protected; throwing stops.
    public var progress: @Sendable (Int) throws -> Void = { _ in }

    /// Options with these differences from the usual ones; whatever else is set afterwards.
    public init(
        parityCount: Int = 2, columnCount: Int? = nil, layout: ProtectionLayout = .automatic, replacing: Bool = false
    ) {
        self.parityCount = parityCount
        self.columnCount = columnCount
        self.layout = layout
        self.replacing = replacing
    }
}

extension Protection {
    /// Protects files: writes parity files beside them, durably.
    ///
    /// - Parameters:
    ///   - names: The files, from the folder on.
    ///   - folder: A prefix of keys that ends in "/", or nothing for the storage itself.
    ///   - name: What the parity files are named after: `NAME.cairn-parity-00`.
    /// - Throws: ``CairnError/Code/alreadyExists`` for parity of that name unless ``ProtectionOptions/replacing``,
    ///   ``CairnError/Code/invalidArgument`` for names and counts that cannot be, what the storage throws. Nothing is left then.
    @discardableResult
    public static func protect(
        _ names: [String], in storage: any Storage, folder: String = "", as name: String,
        options: ProtectionOptions = ProtectionOptions()
    ) throws -> Protection {
        guard ParityName(ParityName(.beside(name), number: 0).text) != nil else {
            throw CairnError(.invalidArgument, "parity files cannot be named like this", .init(found: name.debugDescription))
        }
        return try ProtectionWriter(
            storage: storage, folder: folder, stem: .beside(name), names: names, saveID: nil, options: options
        ).run()
    }
}

/// Computes and writes the parity of files.
struct ProtectionWriter {
    let storage: any Storage
    let folder: String
    let stem: ParityName.Stem
    let names: [String]
    let saveID: SaveID?
    let options: ProtectionOptions

    func run() throws -> Protection {
        var files: [any StorageFile] = []
        for name in names { files.append(try storage.open(folder + name)) }
        let sizes = zip(names, files).map { StripeLayout.File(name: $0, byteCount: $1.byteCount) }
        let layout = try Self.layout(sizes, options, in: storage.location(of: folder))
        let output = try ParityOutput(
            storage, folder: folder, stem: stem,
            index: ParityIndex(layout: layout, parityCount: options.parityCount, saveID: saveID),
            options)
        do {
            try output.write(stripes: Array(0..<layout.stripeCount), of: files)
            return try output.finish()
        } catch {
            output.discard()
            throw error
        }
    }

    /// How files are arranged.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` for what cannot be.
    static func layout(
        _ files: [StripeLayout.File], _ options: ProtectionOptions, in location: String
    ) throws(CairnError) -> StripeLayout {
        guard !files.isEmpty else {
            throw CairnError(.invalidArgument, "there is no file to protect", .init(file: location))
        }
        try options.check()
        let columns = ColumnPlan.columns(files, options.layout, count: options.columnCount)
        _ = try ErasureCode(dataCount: columns.count, parityCount: options.parityCount)
        do throws(CairnError) {
            return try StripeLayout(files: files, columns: columns, blockByteCount: options.blockByteCount)
        } catch {
            throw CairnError(.invalidArgument, error.message, error.context)
        }
    }
}

extension ProtectionOptions {
    /// - Throws: ``CairnError/Code/invalidArgument`` for a number of columns that cannot be.
    func check() throws(CairnError) {
        guard let count = columnCount, count < 1 || count > ErasureCode.greatestCount else { return }
        throw CairnError(
            .invalidArgument, "there cannot be so many columns",
            .init(expected: "1 to \(ErasureCode.greatestCount)", found: "\(count)"))
    }
}
