import CairnBase
public import CairnCheckpoint
import CairnInterop
import CairnStorage

extension CheckpointFormat {
    /// HDF5: one file.
    public static let hdf5 = {
        var format = CheckpointFormat(
            name: "hdf5", title: "HDF5", kinds: [.file], recognise: HDF5Format.claim,
            open: { path, options in Opening(try HDF5Reader(path: path, reading: options.reading)) })
        format.fileExtensions = [".h5", ".hdf5"]
        format.withoutChecksums = HDF5Format.withoutChecksums
        format.targets = [
            CheckpointTarget(
                name: "hdf5", summary: "a file for h5py", place: .file,
                writer: { try HDF5Writer(path: $0, replaces: $1.replaces) }),
            CheckpointTarget(
                name: "keras-weights", summary: "a file that Keras 3 loads as NAME.weights.h5", place: .file,
                writer: { try HDF5Writer(path: $0, flavour: .kerasWeights, replaces: $1.replaces) }),
        ]
        return format
    }()

    /// Keras: a `.keras` file, or the index of Keras's sharded weights.
    public static let keras = {
        var format = CheckpointFormat(
            name: "keras", title: "Keras", kinds: [.file],
            recognise: { contents throws(CairnError) in
                if contents.kind == .file, contents.name.hasSuffix(".weights.json") { return Claim(contents.path) }
                let isArchive = try contents.zipNames()?.contains(KerasReader.weightsRecordName) ?? false
                return isArchive ? Claim(contents.path, instead: ["numpy"]) : nil
            },
            open: { path, options in Opening(try KerasReader(path: path, reading: options.reading)) })
        format.fileExtensions = [".keras"]
        format.withoutChecksums = HDF5Format.withoutChecksums
        return format
    }()
}

private enum HDF5Format {
    static let withoutChecksums = "only chunks with a Fletcher-32 filter have them"
    private static let signature: [UInt8] = [0x89, 0x48, 0x44, 0x46, 0x0D, 0x0A, 0x1A, 0x0A]

    /// An HDF5 file begins at the beginning, or behind a user's block: at 512 times a power of two. There it may as well be
    /// a part of something else.
    static func claim(_ contents: PathContents) throws(CairnError) -> CheckpointFormat.Claim? {
        guard contents.kind == .file else { return nil }
        if try contents.begins(with: signature) { return .init(contents.path) }
        let file = try contents.file()
        var offset = 512
        while offset <= file.byteCount - signature.count {
            if try file.bytes(in: offset..<offset + signature.count) == signature { return .init(contents.path, .trace) }
            offset *= 2
        }
        return nil
    }
}
