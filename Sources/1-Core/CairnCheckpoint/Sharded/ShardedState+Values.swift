public import CairnBase
public import CairnLayout
public import CairnTensor

extension ShardedState {
    /// Which ranks a value belongs to.
    public enum ValueScope: Sendable, Hashable {
        /// The whole state: the same on every rank.
        case state
        /// This rank alone: its random generator, its place in the data.
        case rank
    }

    /// Sets the value of a name, in place of one of the same name and scope.
    public mutating func set(_ value: Value, for name: String, of scope: ValueScope = .state) {
        switch scope {
        case .state: Self.set(value, name, in: &values)
        case .rank: Self.set(value, name, in: &rankValues)
        }
    }

    /// Encodes anything `Encodable` as the value of a name; see ``Value/init(encoding:)``.
    ///
    /// - Throws: What cannot be encoded throws.
    public mutating func set(encoding content: some Encodable, for name: String, of scope: ValueScope = .state) throws {
        set(try Value(encoding: content), for: name, of: scope)
    }

    /// The value of a name.
    ///
    /// - Throws: ``CairnError/Code/notFound``.
    public func value(_ name: String, of scope: ValueScope = .state) throws(CairnError) -> Value {
        let (values, owner) = scope == .state ? (self.values, "the state") : (rankValues, "the rank")
        guard let found = values.first(where: { ExactString($0.name) == ExactString(name) }) else {
            throw CairnError(
                .notFound, "\(owner) has no such value",
                .init(
                    tensor: name, rank: scope == .rank ? rank : nil,
                    expected: values.isEmpty ? nil : values.prefix(8).map(\.name).joined(separator: ", ")))
        }
        return found.value
    }

    /// The value of a name as what ``set(encoding:for:of:)`` made it of.
    ///
    /// - Throws: ``CairnError/Code/notFound`` when there is none, ``CairnError/Code/mismatch`` when it is no such value.
    public func decode<Content: Decodable>(
        _ type: Content.Type, for name: String, of scope: ValueScope = .state
    ) throws -> Content {
        do {
            return try value(name, of: scope).decoded(as: type)
        } catch let error as CairnError {
            throw error.adding(.init(tensor: name))
        }
    }

    private static func set(_ value: Value, _ name: String, in values: inout [NamedValue]) {
        if let position = values.firstIndex(where: { ExactString($0.name) == ExactString(name) }) {
            values[position].value = value
        } else {
            values.append(NamedValue(name: name, value: value))
        }
    }
}

extension PlacedTensor {
    /// A tensor that a checkpoint has, laid out on a mesh.
    public init(_ tensor: TensorDescription, layout: Layout) {
        self.init(name: tensor.name, scalarType: tensor.scalarType, shape: tensor.shape, layout: layout)
    }
}
