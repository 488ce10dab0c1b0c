package import CairnBase

/// The rules of keys that every storage shares.
package enum StorageKey {
    /// Between an object's key and the random part of the name under which it is written.
    private static let temporaryMark = ".cairn-partial-"

    /// The name under which the object `key` is written before it is complete: it begins with the key, so that listings
    /// by prefix show it.
    package static func temporary(for key: String, token: UInt64) -> String {
        key + temporaryMark + String(token, radix: 36)
    }

    /// Whether `key` names an object that was not finished.
    package static func isTemporary(_ key: String) -> Bool {
        let name = key.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).last ?? key.utf8[...]
        let mark = Array(temporaryMark.utf8)
        guard name.count > mark.count else { return false }
        return name.indices.contains { name[$0...].starts(with: mark) }
    }

    /// Throws `.invalidArgument` unless `key` is a relative path that stays below the root.
    package static func validate(_ key: String) throws(CairnError) {
        if let flaw = flaw(of: key) { throw refusal(of: key, flaw) }
    }

    /// Throws `.invalidArgument` unless keys can begin with `prefix`.
    package static func validate(prefix: String) throws(CairnError) {
        guard let slash = prefix.utf8.lastIndex(of: UInt8(ascii: "/")) else {
            if prefix.utf8.contains(0) { throw refusal(of: prefix, "contains NUL") }
            return
        }
        if prefix.utf8[slash...].contains(0) { throw refusal(of: prefix, "contains NUL") }
        if let flaw = flaw(of: String(prefix[..<slash])) { throw refusal(of: prefix, flaw) }
    }

    /// Whether `key` begins with `prefix`, byte for byte.
    package static func has(_ key: String, prefix: String) -> Bool {
        key.utf8.starts(with: prefix.utf8)
    }

    /// The order of listings: by UTF-8 bytes, as object stores have it.
    package static func precedes(_ left: String, _ right: String) -> Bool {
        left.utf8.lexicographicallyPrecedes(right.utf8)
    }

    /// Throws `.invalidArgument` for an offset or a byte count below zero.
    package static func validate(offset: Int, byteCount: Int = 0, of key: String) throws(CairnError) {
        if offset < 0 { throw CairnError(.invalidArgument, "negative offset", .init(file: key, offset: offset)) }
        if byteCount < 0 {
            throw CairnError(.invalidArgument, "negative byte count", .init(file: key, found: "\(byteCount)"))
        }
    }

    /// The error of a read that met the end of the object too early.
    package static func shortRead(
        of file: String, at offset: Int, expected: Int, found: Int, byteCount: Int
    ) -> CairnError {
        CairnError(
            .incomplete, "the file ends too early: it has \(byteCount) bytes",
            .init(
                file: file, offset: offset, expected: "\(expected) bytes", found: "\(found) bytes",
                advice: "it was cut short or is still being written; use another copy or an older checkpoint"))
    }

    private static func flaw(of key: String) -> String? {
        if key.isEmpty { return "is empty" }
        if key.utf8.first == UInt8(ascii: "/") { return "is an absolute path" }
        for component in key.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false) {
            if component.isEmpty { return "has an empty component" }
            if component.elementsEqual(".".utf8) || component.elementsEqual("..".utf8) {
                return "has the component \".\" or \"..\""
            }
            if component.contains(0) { return "contains NUL" }
        }
        return nil
    }

    private static func refusal(of key: String, _ flaw: String) -> CairnError {
        CairnError(
            .invalidArgument, "the storage key \(flaw)",
            .init(found: key.debugDescription, advice: "use a relative path such as \"step-00000400/manifest.json\""))
    }
}
