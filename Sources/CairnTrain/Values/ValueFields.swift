internal import CairnBase
internal import CairnTensor

/// A stored dictionary read strictly: each error names the field, what was expected and what is there.
struct ValueFields {
    let path: String
    private let fields: [String: Value]

    init(_ path: String, _ value: Value?) throws(CairnError) {
        guard let value else {
            throw CairnError(.incomplete, "the stored state lacks the value \"\(path)\"")
        }
        guard case .dictionary(let fields) = value else {
            throw Self.wrong(path, "a dictionary", value)
        }
        self.path = path
        self.fields = fields
    }

    /// Throws for a field that is not in `names`.
    func allowOnly(_ names: Set<String>) throws(CairnError) {
        for name in fields.keys.sorted() where !names.contains(name) {
            throw CairnError(.mismatch, "the stored state has a value \"\(path).\(name)\" that nothing reads")
        }
    }

    func fields(_ name: String) throws(CairnError) -> ValueFields {
        try ValueFields("\(path).\(name)", try field(name))
    }

    func field(_ name: String) throws(CairnError) -> Value {
        guard let value = fields[name] else {
            throw CairnError(.incomplete, "the stored state lacks the value \"\(path).\(name)\"")
        }
        return value
    }

    func has(_ name: String) -> Bool { fields[name] != nil }

    /// One of the texts that the type knows.
    func choice<Choice: RawRepresentable<String> & CaseIterable>(_ name: String) throws(CairnError) -> Choice {
        let found = try string(name)
        guard let choice = Choice(rawValue: found) else {
            let known = Choice.allCases.map(\.rawValue).joined(separator: ", ")
            throw Self.wrong("\(path).\(name)", "one of \(known)", .string(found))
        }
        return choice
    }

    /// Throws unless the field has this very value.
    func expect(_ name: String, _ expected: Value) throws(CairnError) {
        let found = try field(name)
        guard found == expected else { throw Self.wrong("\(path).\(name)", "\(expected)", found) }
    }

    /// The largest count that is taken from a file: no run gets there, and sums and products by small factors stay far from
    /// overflow.
    static let largestCount = 1 << 48

    func integer(_ name: String, in range: ClosedRange<Int> = 0...largestCount) throws(CairnError) -> Int {
        let found = try field(name)
        let number: Int? =
            switch found {
            case .integer(let number): Int(exactly: number)
            case .unsigned(let number): Int(exactly: number)
            default: nil
            }
        guard let number, range.contains(number) else { throw Self.wrong("\(path).\(name)", "an integer", found) }
        return number
    }

    func unsigned(_ name: String) throws(CairnError) -> UInt64 {
        let found = try field(name)
        switch found {
        case .unsigned(let number): return number
        case .integer(let number) where number >= 0: return UInt64(number)
        default: throw Self.wrong("\(path).\(name)", "a number that is not negative", found)
        }
    }

    func double(_ name: String) throws(CairnError) -> Double {
        let found = try field(name)
        guard case .double(let number) = found else { throw Self.wrong("\(path).\(name)", "a number", found) }
        return number
    }

    func bool(_ name: String) throws(CairnError) -> Bool {
        let found = try field(name)
        guard case .bool(let truth) = found else { throw Self.wrong("\(path).\(name)", "true or false", found) }
        return truth
    }

    func string(_ name: String) throws(CairnError) -> String {
        let found = try field(name)
        guard case .string(let string) = found else { throw Self.wrong("\(path).\(name)", "a string", found) }
        return string
    }

    func list(_ name: String) throws(CairnError) -> [Value] {
        let found = try field(name)
        guard case .list(let list) = found else { throw Self.wrong("\(path).\(name)", "a list", found) }
        return list
    }

    func doubles(_ name: String) throws(CairnError) -> [Double] {
        var numbers: [Double] = []
        for value in try list(name) {
            guard case .double(let number) = value else { throw Self.wrong("\(path).\(name)", "numbers", value) }
            numbers.append(number)
        }
        return numbers
    }

    static func wrong(_ path: String, _ expected: String, _ found: Value) -> CairnError {
        CairnError(
            .mismatch, "the stored value \"\(path)\" does not fit", .init(expected: expected, found: "\(found)"))
    }
}
