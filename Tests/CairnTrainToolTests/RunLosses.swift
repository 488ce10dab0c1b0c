import Cairn

/// The losses that a run has written down, step after step.
struct RunLosses {
    var values: [Double] = []

    init(folder: String) throws {
        let bytes = try LocalStorage(root: folder).readAll("losses.csv", limit: 1 << 20)
        values = String(decoding: bytes, as: UTF8.self).split(separator: "\n").dropFirst().compactMap { line in
            line.split(separator: ",").last.flatMap { UInt64($0, radix: 16) }.map { Double(bitPattern: $0) }
        }
    }

    /// `nil` for a run of another length.
    func largestDeviation(from other: RunLosses) -> Double? {
        guard values.count == other.values.count else { return nil }
        return zip(values, other.values).map { abs($0 - $1) }.max()
    }
}
