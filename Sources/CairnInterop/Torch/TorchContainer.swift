/// The kinds of files that PyTorch has written, by their first bytes.
package enum TorchContainer: Sendable {
    /// `torch.save` since version 1.6, TorchScript, `torch.export`.
    case zip
    /// `torch.save` before version 1.6.
    case legacy
    /// The same before version 0.1.13.
    case tar
    /// Python's `pickle`, nothing beside it.
    case pickle

    /// - Parameter bytes: The first 512 bytes, or all of a shorter file. What is none of the others is taken for a zip
    ///   archive, whose errors say what is missing.
    package init(beginning bytes: [UInt8]) {
        switch true {
        case LegacyTorchFile.isBeginning(bytes): self = .legacy
        case Self.isPickle(bytes): self = .pickle
        case Self.isTar(bytes): self = .tar
        default: self = .zip
        }
    }

    /// Whether a file that begins with these bytes is one of them, and no other kind of zip archive is meant.
    package static func isTorch(_ bytes: [UInt8]) -> Bool {
        if case .zip = TorchContainer(beginning: bytes) { return bytes.starts(with: [0x50, 0x4B, 3, 4]) }
        return true
    }

    /// Whether a pickle is of joblib, which names its own class at the beginning and puts bytes of arrays between its parts.
    package static func isJoblib(_ bytes: [UInt8]) -> Bool {
        bytes.first == 0x80 && bytes.firstRange(of: Array("joblib.numpy_pickle".utf8)) != nil
    }

    /// A pickle of protocol 2 and later says so.
    private static func isPickle(_ bytes: [UInt8]) -> Bool {
        if bytes.count > 2, bytes[0] == 0x80, (2...5).contains(bytes[1]) { return true }
        return PickleInterpreter.isPlausible(bytes)
    }

    /// The mark of POSIX archives, and the first of the files that PyTorch put into its own.
    private static func isTar(_ bytes: [UInt8]) -> Bool {
        guard bytes.count >= 262, bytes[257..<262].elementsEqual("ustar".utf8) else { return false }
        let name = bytes.prefix { $0 != 0 }
        return ["sys_info", "./sys_info", "pickle", "storages", "tensors"].contains { name.elementsEqual($0.utf8) }
    }
}
