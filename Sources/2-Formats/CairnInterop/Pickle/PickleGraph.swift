/// What a pickle describes, as data: numbers, text, containers, and objects that stay inert.
///
/// Python would call something to make each object. Here a call is only noted: what would be called and with what.
/// Nothing is ever executed. Nodes refer to each other by number, so that cycles and endless nesting cost nothing.
package struct PickleGraph: Sendable {
    /// A node's number.
    package struct Reference: Sendable, Hashable {
        package let index: Int32
    }

    package enum Node: Sendable {
        case none
        case bool(Bool)
        case integer(Int64)
        /// An integer beyond 64 bits: two's complement, little-endian.
        case bigInteger([UInt8])
        case double(Double)
        case string(String)
        case bytes([UInt8])
        case list([Reference])
        case tuple([Reference])
        case set([Reference])
        /// Keys and values in turn. A key may come twice; the last one counts.
        case dictionary([Reference])
        /// A class or function by name: its place in ``globals``.
        case global(Int32)
        /// What a call would make: its place in ``objects``.
        case object(Int32)
        /// What the file's reader would supply for this identification.
        case persistent(Reference)
    }

    /// A class or function by name.
    package struct Global: Sendable, Hashable {
        package var module: String
        package var name: String

        /// `torch._utils._rebuild_tensor_v2`
        package var path: String { module + "." + name }
    }

    /// A call that was not made, and what was to be done to its result.
    package struct Object: Sendable {
        /// What would be called.
        package var constructor: Global
        /// Its arguments.
        package var arguments: [Reference]
        /// What the result's state would be set to.
        package var state: Reference?
        /// What would be appended to the result, as to a list or a set.
        package var elements: [Reference] = []
        /// What would be set in the result, as in a dictionary: keys and values in turn.
        package var items: [Reference] = []
    }

    package var nodes: [Node]
    package var globals: [Global]
    package var objects: [Object]
    package var root: Reference
    /// The length of the pickle, by which is measured how much may be made of it.
    package var byteCount = 0

    package subscript(reference: Reference) -> Node { nodes[Int(reference.index)] }

    /// The object behind a reference, if it is one.
    package func object(_ reference: Reference) -> Object? {
        guard case .object(let index) = self[reference] else { return nil }
        return objects[Int(index)]
    }

    /// The class or function behind a reference, if it is one.
    package func global(_ reference: Reference) -> Global? {
        guard case .global(let index) = self[reference] else { return nil }
        return globals[Int(index)]
    }

    package func string(_ reference: Reference) -> String? {
        guard case .string(let text) = self[reference] else { return nil }
        return text
    }

    package func integer(_ reference: Reference) -> Int? {
        guard case .integer(let value) = self[reference] else { return nil }
        return Int(value)
    }

    /// The elements of a tuple or a list.
    package func sequence(_ reference: Reference) -> [Reference]? {
        switch self[reference] {
        case .tuple(let elements), .list(let elements): elements
        default: nil
        }
    }

    /// The integers of a tuple, a list or a `torch.Size`.
    package func integers(_ reference: Reference) -> [Int]? {
        if let object = object(reference), object.constructor.path == "torch.Size", object.arguments.count == 1 {
            return object.arguments.first.flatMap { sequence($0) }.flatMap(integers)
        }
        return sequence(reference).flatMap(integers)
    }

    private func integers(_ references: [Reference]) -> [Int]? {
        var values: [Int] = []
        values.reserveCapacity(references.count)
        for reference in references {
            guard let value = integer(reference) else { return nil }
            values.append(value)
        }
        return values
    }

    /// The value under a text key of a dictionary.
    package func value(_ key: String, of dictionary: Reference) -> Reference? {
        guard case .dictionary(let items) = self[dictionary] else { return nil }
        var found: Reference?
        for index in stride(from: 0, to: items.count - 1, by: 2) where string(items[index]) == key {
            found = items[index + 1]
        }
        return found
    }
}
