import CairnBase
import CairnStorage

/// The saves in a file that has several, one behind the other, as `torch.save` and `pickle.dump` leave them when the same
/// open file is given to them again.
struct TorchSaves {
    /// Where each of them is.
    private(set) var ranges: [Range<Int>] = []
    /// Bytes behind the last save that are not a save.
    private(set) var rest = 0..<0

    private static let signatureByteCount = 512
    private static let greatestCount = 100_000

    /// - Parameter limit: How many are looked for at most; what follows them is then no concern.
    init(in file: any StorageFile, limit: Int? = nil) throws(CairnError) {
        var offset = 0
        while offset < file.byteCount, ranges.count < min(limit ?? .max, Self.greatestCount) {
            let window = try FileWindow(file, offset: offset, byteCount: file.byteCount - offset)
            let length: Int
            do throws(CairnError) {
                guard let found = try Self.length(of: window) else { break }
                length = found
            } catch {
                // An error of the first save is the file's; what follows it and is not a save is only bytes.
                guard ranges.isEmpty || error.code == .inputOutput else { break }
                throw error
            }
            guard length > 0 else { break }
            ranges.append(offset..<offset + length)
            offset += length
        }
        rest = offset..<file.byteCount
    }

    /// The length of the save that a file begins with; `nil` where none begins.
    private static func length(of file: FileWindow) throws(CairnError) -> Int? {
        let beginning = try file.bytes(in: 0..<min(signatureByteCount, file.byteCount))
        switch TorchContainer(beginning: beginning) {
        case .legacy: return try LegacyTorchFile(file).end
        case .pickle:
            let limits = PickleLimits()
            var interpreter = PickleInterpreter(
                try file.bytes(in: 0..<min(file.byteCount, limits.byteCount)), limits: limits, file: file.key)
            _ = try interpreter.next()
            return interpreter.position
        case .zip:
            guard beginning.starts(with: [0x50, 0x4B, 3, 4]) else { return nil }
            return try zipLength(of: file)
        case .tar: return nil
        }
    }

    /// The length of the zip archive at the beginning of a file: as a rule all of it.
    static func zipLength(of file: any StorageFile) throws(CairnError) -> Int {
        do throws(CairnError) {
            _ = try ZipDirectory(of: file)
            return file.byteCount
        } catch {
            if let end = ZipEnd(of: file, from: 0)?.end { return end }
            throw error
        }
    }

    /// What follows a save, as a note: other saves, or bytes that are not a save.
    ///
    /// - Parameter part: Which one it is, counted from 1.
    func note(after part: Int, byteCount: Int) -> String? {
        var words: [String] = []
        if ranges.count > 1 {
            let others = ranges.indices.filter { $0 != part - 1 }
            let locations = others.prefix(8).map { "\($0 + 1) at offset \(ranges[$0].lowerBound)" }.joined(separator: ", ")
            words.append(
                "the file holds \(ranges.count) saves, of which number \(part) is read; there are also number "
                    + locations + (others.count > 8 ? ", …" : "") + ", of \(byteCount) bytes: --part N reads another")
        }
        if !rest.isEmpty {
            words.append(
                "\(rest.count) bytes at the file's end, from offset \(rest.lowerBound), are no save and are not read")
        }
        return words.isEmpty ? nil : words.joined(separator: "; ")
    }
}
