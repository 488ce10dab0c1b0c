import CairnBase
import CairnCheckpoint
import CairnInterop
import CairnStorage
import CairnTensor

/// Reads everything that a source says to have, as far as it is small.
enum FuzzReading {
    /// Tensors up to this size are read.
    private static let mostBytes = 1 << 16
    private static let mostParts = 64

    static func all(of reader: some CheckpointReader) throws {
        _ = reader.values.count + (reader.structure == nil ? 0 : 1)
        for tensor in reader.tensors.prefix(mostParts) where tensor.byteCount <= mostBytes {
            do {
                _ = try reader.tensor(tensor.name)
            } catch {
                _ = "\(error)"
            }
        }
        let isSmall = reader.tensors.allSatisfy { $0.byteCount <= mostBytes }
        guard isSmall, reader.tensors.count <= mostParts else { return }
        _ = try reader.verify(deep: true) { _ in }
    }

    static func all(of zip: ZipArchive) throws {
        for entry in zip.entries.prefix(mostParts) {
            do throws(CairnError) {
                let record = try zip.record(entry.name)
                _ = try record.bytes(in: record.byteCount / 2..<min(record.byteCount, record.byteCount / 2 + 64))
                _ = try zip.bytes(entry.name, limit: mostBytes)
            } catch {
                _ = "\(error)"
            }
            if entry.byteCount <= mostBytes { _ = try zip.record(entry.name).damage { _ in } }
        }
    }
}
