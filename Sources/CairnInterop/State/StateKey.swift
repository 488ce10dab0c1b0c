package import CairnBase

/// One step on the way to something in a nested state: a dictionary's key or a place in a list.
package enum StateKey: Sendable, Hashable {
    case name(ExactString)
    case index(Int)

    package init(_ name: String) { self = .name(ExactString(name)) }

    /// A place where the name spells one, for formats that do not tell the two apart.
    package init(spelling name: String) {
        if let index = Int(name), index >= 0, String(index).utf8.elementsEqual(name.utf8) {
            self = .index(index)
        } else {
            self.init(name)
        }
    }

    /// As Python's `str` spells it.
    package var text: String {
        switch self {
        case .name(let name): name.string
        case .index(let index): String(index)
        }
    }
}

/// The names of what lies at paths of a nested state: the components joined by dots.
///
/// Where two paths join to one name, as `a` / `b.c` and `a.b` / `c` do, the dots and backslashes inside the components
/// of both get a backslash in front.
enum StateNames {
    static func joined(_ path: [StateKey]) -> String {
        path.map(\.text).joined(separator: ".")
    }

    /// - Parameter fallback: The name of what has an empty path.
    /// - Throws: ``CairnError/Code/unsupported`` when two paths cannot be told apart by name.
    static func names(of paths: [[StateKey]], fallback: String, file: String) throws(CairnError) -> [String] {
        var names = paths.map { $0.isEmpty ? fallback : joined($0) }
        var uses: [ExactString: Int] = [:]
        for name in names { uses[ExactString(name), default: 0] += 1 }
        guard uses.count < names.count else { return names }
        for (index, path) in paths.enumerated() where uses[ExactString(names[index])] ?? 0 > 1 {
            names[index] = path.map { escaped($0.text) }.joined(separator: ".")
        }
        var seen: Set<ExactString> = []
        for name in names where !seen.insert(ExactString(name)).inserted {
            throw CairnError(
                .unsupported, "two tensors have keys that are spelt alike", .init(file: file, tensor: name))
        }
        return names
    }

    private static func escaped(_ text: String) -> String {
        String(text.flatMap { $0 == "." || $0 == "\\" ? ["\\", $0] : [$0] })
    }
}
