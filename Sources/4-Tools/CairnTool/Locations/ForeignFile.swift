import CairnBase
import CairnCheckpoint
import CairnInterop
import CairnStorage

/// What a file is that is not a checkpoint, or none that Cairn reads: by its first and last bytes, else by its name.
struct ForeignFile {
    /// As a noun: `a Git LFS pointer`.
    let name: String
    /// What the user can do.
    var advice: String?
    /// Whether something is missing of the file, so that another copy may be a checkpoint.
    var isDamaged = false

    private init(_ name: String, _ advice: String? = nil) {
        self.name = name
        self.advice = advice
    }

    /// - Returns: `nil` for what is not known.
    init?(path: String) throws(CairnError) {
        let (directory, name) = PathInspection.split(path)
        let file = try LocalStorage(root: directory).open(name)
        let beginning = try file.bytes(in: 0..<min(PathContents.beginningByteCount, file.byteCount))
        if file.byteCount == 0 {
            self.init("an empty file", "take another copy")
            isDamaged = true
        } else if SafeTensorsReader.mayBegin(with: beginning) {
            // Its first bytes are a number, which may be the mark of anything.
            return nil
        } else if name.contains(".data-"), name.contains("-of-") {
            self.init("the data of a TensorFlow checkpoint", Self.tensorFlow)
        } else if name.hasSuffix(".index"), !beginning.starts(with: "{".utf8) {
            self.init("the index of a TensorFlow checkpoint", Self.tensorFlow)
        } else if beginning.allSatisfy({ $0 == 0 }), file.byteCount >= 16, try Self.isZero(file) {
            self.init(
                "nothing but zeros, \(file.byteCount) bytes of them", "its writing or copying was broken off; take another copy")
            isDamaged = true
        } else if let found = Self.magic(beginning) ?? Self.text(beginning, byteCount: file.byteCount) {
            self = found
        } else if let found = Self.binary(beginning, name: name, isTable: try Self.isTable(file)) {
            self = found
        } else {
            return nil
        }
    }

    private static let leastZeros = 16 << 20

    /// Whether a file is only zeros, as far as its first mebibytes tell.
    private static func isZero(_ file: any StorageFile) throws(CairnError) -> Bool {
        let step = 1 << 20
        for begin in stride(from: 0, to: min(file.byteCount, leastZeros), by: step) {
            guard try file.bytes(in: begin..<min(begin + step, file.byteCount)).allSatisfy({ $0 == 0 }) else { return false }
        }
        return true
    }

    /// Whether a file ends as the tables do in which TensorFlow keeps a checkpoint's index.
    private static func isTable(_ file: any StorageFile) throws(CairnError) -> Bool {
        guard file.byteCount >= 48 else { return false }
        return try file.bytes(in: file.byteCount - 8..<file.byteCount)
            .elementsEqual([0x57, 0xFB, 0x80, 0x8B, 0x24, 0x75, 0x47, 0xDB])
    }

    // MARK: By the first bytes

    private static func magic(_ bytes: [UInt8]) -> ForeignFile? {
        func begins(_ text: String, at offset: Int = 0) -> Bool { bytes.dropFirst(offset).starts(with: text.utf8) }
        let unpack = "unpack it and name the file that was in it"
        switch true {
        case bytes.starts(with: [0x1F, 0x8B]): return ForeignFile("compressed with gzip", unpack + " (gunzip)")
        case begins("BZh"): return ForeignFile("compressed with bzip2", unpack + " (bunzip2)")
        case bytes.starts(with: [0xFD, 0x37, 0x7A, 0x58, 0x5A, 0]):
            return ForeignFile("compressed with xz", unpack + " (unxz)")
        case bytes.starts(with: [0x28, 0xB5, 0x2F, 0xFD]): return ForeignFile("compressed with zstd", unpack + " (unzstd)")
        case bytes.starts(with: [0x04, 0x22, 0x4D, 0x18]): return ForeignFile("compressed with lz4", unpack + " (unlz4)")
        case bytes.starts(with: [0x5D, 0, 0]): return ForeignFile("compressed with LZMA", unpack + " (unlzma)")
        case bytes.starts(with: [0x37, 0x7A, 0xBC, 0xAF, 0x27, 0x1C]): return ForeignFile("a 7z archive", unpack)
        case begins("Rar!"): return ForeignFile("a RAR archive", unpack)
        case begins("ustar", at: 257): return ForeignFile("a tar archive", unpack + " (tar -x)")
        case bytes.count > 2 && bytes[0] == 0x78 && [0x01, 0x5E, 0x9C, 0xDA].contains(bytes[1]):
            return ForeignFile(
                "compressed with zlib, as joblib does", "load it with joblib and save it with torch.save or numpy.savez")
        case TorchContainer.isJoblib(bytes):
            return ForeignFile(
                "a pickle of joblib, with the bytes of arrays between its parts",
                "load it with joblib and save it with torch.save or numpy.savez")
        case begins("GGUF"): return ForeignFile("GGUF, a format of llama.cpp", nil)
        case begins("lmgg") || begins("fmgg") || begins("tjgg") || begins("algg"):
            return ForeignFile("GGML, a format of llama.cpp before GGUF", nil)
        case begins("TFL3", at: 4): return ForeignFile("a TensorFlow Lite model", nil)
        case begins("MATLAB "): return ForeignFile("a MATLAB MAT-file of version 5", "save it with -v7.3, which is HDF5")
        case bytes.starts(with: [0xBA, 0x16, 0x4F, 0x2F]): return ForeignFile("a fastText model", nil)
        case begins("binf"): return ForeignFile("an XGBoost model", nil)
        case begins("PAR1"): return ForeignFile("a Parquet file", nil)
        case begins("ARROW1"): return ForeignFile("an Arrow file", nil)
        case begins("SQLite format 3"): return ForeignFile("an SQLite database", nil)
        case begins("%PDF"): return ForeignFile("a PDF document", nil)
        case bytes.starts(with: [0x89, 0x50, 0x4E, 0x47]): return ForeignFile("a PNG image", nil)
        case bytes.starts(with: [0xFF, 0xD8, 0xFF]): return ForeignFile("a JPEG image", nil)
        case bytes.starts(with: [0x7F, 0x45, 0x4C, 0x46]): return ForeignFile("a program (ELF)", nil)
        case bytes.starts(with: [0x89, 0x48, 0x44, 0x46]): return ForeignFile("HDF5", nil)
        case bytes.starts(with: [0x93, 0x4E, 0x55, 0x4D, 0x50, 0x59]): return ForeignFile("a NumPy array", nil)
        default: return nil
        }
    }

    // MARK: Text

    private static func text(_ bytes: [UInt8], byteCount: Int) -> ForeignFile? {
        var start = bytes[...]
        if start.starts(with: [0xEF, 0xBB, 0xBF]) { start = start.dropFirst(3) }
        start = start.drop { [0x20, 0x09, 0x0A, 0x0D].contains($0) }
        let isText = start.allSatisfy { $0 >= 0x20 && $0 != 0x7F || [0x09, 0x0A, 0x0D].contains($0) }
        guard isText, start.count > 1 else { return nil }
        let beginning = String(decoding: start, as: UTF8.self)
        let lower = beginning.prefix(64).lowercased()
        let excerpt = String(beginning.prefix { $0 != "\n" }.prefix(60))
        let again = "the download gave this instead of the file; try it again, or with other rights"
        switch true {
        case beginning.hasPrefix("version https://git-lfs"):
            let size = beginning.split(separator: "\n").first { $0.hasPrefix("size ") }.map { $0.dropFirst(5) }
            return ForeignFile(
                "a Git LFS pointer" + (size.map { ", which stands for a file of \($0) bytes" } ?? ""),
                "`git lfs pull` brings the file itself")
        case lower.hasPrefix("<!doctype html") || lower.hasPrefix("<html"): return ForeignFile("an HTML page", again)
        case lower.hasPrefix("<?xml") || lower.hasPrefix("<error"): return ForeignFile("XML: \(excerpt)", again)
        case beginning.hasPrefix("{") || beginning.hasPrefix("["): return ForeignFile("JSON: \(excerpt)", nil)
        case beginning.hasPrefix("model_checkpoint_path:"):
            return ForeignFile("the text file by which TensorFlow finds a directory's checkpoints", tensorFlow)
        case beginning.hasPrefix("tree\n") || beginning.hasPrefix("tree\r"):
            return ForeignFile("a LightGBM model as text", nil)
        default: return ForeignFile("text: \(excerpt)", nil)
        }
    }

    private static let tensorFlow = "load it with TensorFlow or Keras and save it as .h5, .keras or .npz"

    // MARK: By the name too

    private static func binary(_ bytes: [UInt8], name: String, isTable: Bool) -> ForeignFile? {
        if name == "saved_model.pb" { return ForeignFile("a TensorFlow SavedModel", tensorFlow) }
        if isTable { return ForeignFile("a TensorFlow checkpoint of version 1", tensorFlow) }
        let named: [(ends: [String], what: String)] = [
            ([".onnx"], "an ONNX model"), ([".caffemodel"], "a Caffe model"), ([".weights"], "weights of Darknet"),
            ([".msgpack"], "MessagePack, as Flax writes it"), ([".tflite"], "a TensorFlow Lite model"),
            ([".pb"], "a graph of TensorFlow"), ([".mlmodel"], "a Core ML model"),
            ([".pdiparams"], "parameters of a Paddle program"),
            ([".pdmodel"], "a Paddle program"), ([".params"], "parameters of MXNet"),
            ([".engine", ".plan"], "a TensorRT engine"),
        ]
        for kind in named where kind.ends.contains(where: name.hasSuffix) { return ForeignFile(kind.what, nil) }
        if isONNX(bytes) { return ForeignFile("an ONNX model", nil) }
        // A dictionary of a few entries whose first key is text.
        if let first = bytes.first, (0x81...0x8F).contains(first), bytes.count > 2, (0xA1...0xBF).contains(bytes[1]) {
            return ForeignFile("MessagePack, as Flax writes it", nil)
        }
        return nil
    }

    /// Whether the bytes begin as a message of ONNX: the version, then the name of what wrote it.
    private static func isONNX(_ bytes: [UInt8]) -> Bool {
        guard bytes.count > 4, bytes[0] == 8, (1...20).contains(bytes[1]), bytes[2] == 0x12 else { return false }
        let length = Int(bytes[3])
        return (1...64).contains(length) && bytes.count > 4 + length
            && bytes[4..<4 + length].allSatisfy { (0x20..<0x7F).contains($0) }
    }
}

extension ForeignFile {
    /// The same error about a file, with what the file is where that is known: a shard that is only a pointer, or a
    /// checkpoint of another format than its name says.
    ///
    /// - Parameter path: What was opened; the error may name another file, as one of several.
    static func explaining(_ error: CairnError, opening path: String) -> CairnError {
        guard [.malformed, .incomplete, .unsupported, .mismatch].contains(error.code) else { return error }
        var candidates = [path]
        if let file = error.context.file, file != path {
            candidates.insert(PathInspection.join(path, file), at: 0)
            candidates.insert(PathInspection.join(PathInspection.split(path).directory, file), at: 0)
            candidates.insert(file, at: 0)
        }
        for candidate in candidates {
            guard let kind = try? PathInspection.kind(of: candidate) else { continue }
            guard kind == .file, let found = try? ForeignFile(path: candidate) ?? misnamed(candidate) else { return error }
            if found.isExpected(of: candidate) { return error }
            return CairnError(
                found.isDamaged ? .incomplete : .unsupported, "the file is not a checkpoint",
                .init(
                    file: candidate, tensor: error.context.tensor, found: found.name,
                    advice: found.advice ?? error.context.advice))
        }
        return error
    }

    /// A checkpoint of one format under a name of another.
    private static func misnamed(_ path: String) -> ForeignFile? {
        guard let beginning = try? PathInspection.beginning(of: path, byteCount: PathContents.beginningByteCount) else {
            return nil
        }
        let isSafetensors = path.hasSuffix(".safetensors")
        if SafeTensorsReader.mayBegin(with: beginning), !isSafetensors {
            return ForeignFile("safetensors by its content", "give it the name that its content has")
        }
        if beginning.starts(with: [0x50, 0x4B, 3, 4]), isSafetensors {
            return ForeignFile("a zip archive by its content, as torch.save writes it", "give it the name that its content has")
        }
        return nil
    }

    /// Whether the file's own reader has said what is wrong with it.
    private func isExpected(of path: String) -> Bool {
        name == "HDF5" || name == "a NumPy array" || name.hasPrefix("JSON") && path.hasSuffix(".json")
    }
}
