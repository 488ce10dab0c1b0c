public import CairnBase
public import CairnTensor

/// Everything that training depends on: tensors, small typed values, and ties, each under a fully-qualified name.
///
/// A value type: copying it copies no tensor bytes, so a copy is a consistent snapshot. Names keep the order in which they
/// were first set, and are compared by their UTF-8 bytes.
public struct TrainingState: Sendable {
    /// What a name stands for.
    public enum Entry: Sendable, Equatable {
        case tensor(Tensor)
        case value(Value)
        /// The tensor of another name: one tensor under two names, stored once.
        case tie(String)
    }

    /// What the checkpoint that this was read from has and this state lacks, a sentence each: values that single ranks of
    /// several had alone. It is not part of the state, and not saved.
    public package(set) var skippedEntries: [String] = []

    private var entries: [(name: String, entry: Entry)] = []
    private var positions: [ExactString: Int] = [:]

    public init() {}

    /// The entry of a name; assigning `nil` removes it.
    public subscript(name: String) -> Entry? {
        get { positions[ExactString(name)].map { entries[$0].entry } }
        set {
            let key = ExactString(name)
            switch (positions[key], newValue) {
            case (let position?, let entry?): entries[position].entry = entry
            case (nil, let entry?):
                positions[key] = entries.count
                entries.append((name, entry))
            case (let position?, nil):
                entries.remove(at: position)
                positions[key] = nil
                for index in position..<entries.count { positions[ExactString(entries[index].name)] = index }
            case (nil, nil): break
            }
        }
    }

    /// The names, in the order in which they were first set.
    public var names: [String] { entries.map(\.name) }

    /// The tensors by name, without ties.
    public var tensors: [(name: String, tensor: Tensor)] {
        entries.compactMap { if case .tensor(let tensor) = $0.entry { ($0.name, tensor) } else { nil } }
    }

    /// The values by name.
    public var values: [NamedValue] {
        entries.compactMap { if case .value(let value) = $0.entry { NamedValue(name: $0.name, value: value) } else { nil } }
    }

    /// The ties: a name, and the name whose tensor it shares.
    public var ties: [(name: String, target: String)] {
        entries.compactMap { if case .tie(let target) = $0.entry { ($0.name, target) } else { nil } }
    }

    /// The bytes of all tensors, ties not counted.
    public var byteCount: Int { tensors.reduce(0) { $0 + $1.tensor.byteCount } }

    public mutating func set(_ tensor: Tensor, for name: String) { self[name] = .tensor(tensor) }

    public mutating func set(_ value: Value, for name: String) { self[name] = .value(value) }

    /// Encodes anything `Encodable` as the value of a name; see ``Value/init(encoding:)``.
    ///
    /// - Throws: What cannot be encoded throws.
    public mutating func set(encoding value: some Encodable, for name: String) throws {
        self[name] = .value(try Value(encoding: value))
    }

    /// Makes `name` another name of the tensor `target`.
    public mutating func tie(_ name: String, to target: String) { self[name] = .tie(target) }

    /// The tensor of a name, through a tie if it is one.
    ///
    /// - Throws: ``CairnError/Code/notFound`` when there is none, ``CairnError/Code/mismatch`` when it is a value.
    public func tensor(_ name: String) throws(CairnError) -> Tensor {
        switch self[name] {
        case .tensor(let tensor): return tensor
        case .tie(let target):
            if case .tensor(let tensor) = self[target] { return tensor }
            throw CairnError(
                .notFound, "the tensor that this name is tied to is missing",
                .init(tensor: name, expected: target))
        case .value: throw CairnError(.mismatch, "this name holds a value, not a tensor", .init(tensor: name))
        case nil: throw CairnError(.notFound, "the state has no such tensor", .init(tensor: name))
        }
    }

    /// The value of a name.
    ///
    /// - Throws: ``CairnError/Code/notFound`` when there is none, ``CairnError/Code/mismatch`` when it is a tensor.
    public func value(_ name: String) throws(CairnError) -> Value {
        switch self[name] {
        case .value(let value): return value
        case .tensor, .tie: throw CairnError(.mismatch, "this name holds a tensor, not a value", .init(tensor: name))
        case nil: throw CairnError(.notFound, "the state has no such value", .init(tensor: name))
        }
    }

    /// The value of a name as what ``set(encoding:for:)`` made it of.
    ///
    /// - Throws: ``CairnError/Code/notFound`` when there is none, ``CairnError/Code/mismatch`` when it is a tensor or no such
    ///   value.
    public func decode<Content: Decodable>(_ type: Content.Type, for name: String) throws -> Content {
        do {
            return try value(name).decoded(as: type)
        } catch let error as CairnError {
            throw error.adding(.init(tensor: name))
        }
    }
}

extension TrainingState: Equatable {
    /// Whether both hold the same entries, bit for bit, in whatever order.
    public static func == (left: TrainingState, right: TrainingState) -> Bool {
        left.entries.count == right.entries.count && left.entries.allSatisfy { right[$0.name] == $0.entry }
    }
}
