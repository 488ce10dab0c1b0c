import CairnBase
import CairnProtect

extension ProtectionReport.File {
    /// The location as the user would write it.
    var shownLocation: String { location.hasPrefix("./") ? String(location.dropFirst(2)) : location }
}

/// What a look at protected files found, for people and for programs.
extension ProtectionReport {
    /// `2 more of 8 columns may be lost`
    var summary: String {
        switch remainingLosses {
        case ..<0: "more is lost than parity brings back"
        case 0: "nothing more may be lost"
        case columnCount...: "all columns may be lost"
        default: "\(remainingLosses) more of \(columnCount) columns may be lost"
        }
    }

    /// What is not as it was protected, a sentence each.
    var flaws: [(file: File, message: String)] {
        files.filter { $0.state != .intact }.map { file in
            let what = file.isParity ? "the parity file" : "the file"
            let found = file.foundByteCount ?? 0
            let message =
                switch file.state {
                case .lost: "\(what) is lost"
                case .short: "\(what) ends too early (expected \(file.byteCount) bytes, found \(found))"
                case .long: "\(what) goes on behind its end (expected \(file.byteCount) bytes, found \(found))"
                default: "\(what) is damaged"
                }
            return (file, message + (file.isRepairable ? "; parity brings it back" : ""))
        }
    }

    var document: JSONValue {
        [
            "parity": .count(parityCount), "columns": .count(columnCount), "may_lose": .count(remainingLosses),
            "repairable": .bool(isRepairable), "deep": .bool(isDeep),
            "files": .array(
                files.map { file in
                    [
                        "file": .string(file.shownLocation), "parity": .bool(file.isParity),
                        "state": .string(file.state.rawValue),
                        "bytes": .count(file.byteCount), "found_bytes": file.foundByteCount.map { .count($0) } ?? .null,
                        "damaged": .array(
                            file.damagedRanges.map { .array([.count($0.lowerBound), .count($0.upperBound)]) }),
                    ]
                }),
        ]
    }
}
