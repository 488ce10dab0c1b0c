import CairnBase

/// How files are arranged in columns.
public enum ProtectionLayout: Sendable, Hashable {
    /// Whole files where none of them is more than half of all bytes, else ranges.
    case automatic
    /// Whole files in columns, the largest first into the column with the fewest bytes: what is lost may be as many files as
    /// there is parity. Parity takes as much as the largest column, for each parity file.
    case files
    /// The files end to end, cut in ranges of equal length. Parity takes little, and damage within a file is repaired. A file
    /// that is larger than the ranges that may be lost is not brought back when all of it is gone.
    case ranges
}

enum ColumnPlan {
    private static let greatestColumnCount = 32
    private static let rangeCount = 8

    /// - Parameter count: How many columns; `nil` for what is usual.
    static func columns(
        _ files: [StripeLayout.File], _ layout: ProtectionLayout, count: Int?
    ) -> [[StripeLayout.Piece]] {
        let order = files.indices.filter { files[$0].byteCount > 0 }.sorted {
            (files[$1].byteCount, $0) < (files[$0].byteCount, $1)
        }
        guard let largest = order.first else { return [[]] }
        let total = order.reduce(0) { $0.adding(clamped: files[$1].byteCount) }
        let isByFiles =
            switch layout {
            case .automatic: files[largest].byteCount <= total / 2
            case .files: true
            case .ranges: false
            }
        return isByFiles
            ? whole(files, order, min(order.count, max(1, count ?? greatestColumnCount)))
            : ranges(files, order, total, max(1, count ?? rangeCount))
    }

    private static func whole(
        _ files: [StripeLayout.File], _ order: [Int], _ count: Int
    ) -> [[StripeLayout.Piece]] {
        var columns = [[StripeLayout.Piece]](repeating: [], count: count)
        var sizes = [Int](repeating: 0, count: count)
        for file in order {
            let least = sizes.indices.min { (sizes[$0], $0) < (sizes[$1], $1) } ?? 0
            columns[least].append(.init(file: file, offset: 0, byteCount: files[file].byteCount))
            sizes[least] = sizes[least].adding(clamped: files[file].byteCount)
        }
        return columns
    }

    private static func ranges(
        _ files: [StripeLayout.File], _ order: [Int], _ total: Int, _ count: Int
    ) -> [[StripeLayout.Piece]] {
        let length = total.dividedRoundingUp(by: min(count, total))
        var columns: [[StripeLayout.Piece]] = [[]]
        var room = length
        for file in order {
            var offset = 0
            while offset < files[file].byteCount {
                if room == 0 {
                    columns.append([])
                    room = length
                }
                let taken = min(room, files[file].byteCount - offset)
                columns[columns.count - 1].append(.init(file: file, offset: offset, byteCount: taken))
                offset += taken
                room -= taken
            }
        }
        return columns
    }
}
