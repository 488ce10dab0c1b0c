package import CairnTensor

/// What a value is, `nil` where it is something else.
extension Value {
    package var boolean: Bool? {
        guard case .bool(let value) = self else { return nil }
        return value
    }

    package var signedInteger: Int64? {
        guard case .integer(let value) = self else { return nil }
        return value
    }

    package var unsignedInteger: UInt64? {
        guard case .unsigned(let value) = self else { return nil }
        return value
    }

    package var number: Double? {
        guard case .double(let value) = self else { return nil }
        return value
    }

    package var text: String? {
        guard case .string(let value) = self else { return nil }
        return value
    }
}
