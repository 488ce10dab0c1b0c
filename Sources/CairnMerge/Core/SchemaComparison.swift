public import CairnBase
import CairnCheckpoint
import CairnTensor

/// Whether checkpoints have the same tensors, and every respect in which they have not.
public struct SchemaComparison: Sendable {
    /// Something that stands in the way of a merge.
    public struct Mismatch: Sendable, Hashable, CustomStringConvertible {
        /// What kind of mismatch.
        public enum Kind: Sendable, Hashable {
            /// An input lacks a tensor that the first one has.
            case missing
            /// An input has a tensor that the first one lacks.
            case extra
            case shape(expected: String, found: String)
            case scalarType(expected: String, found: String)
        }

        /// The input, as its reader calls itself.
        public var input: String
        public var tensor: String
        public var kind: Kind

        /// Such as `b.safetensors: tensor "x" is missing`.
        public var description: String {
            let subject = "\(input): tensor \"\(tensor)\""
            switch kind {
            case .missing: return subject + " is missing"
            case .extra: return subject + " is in no first input"
            case .shape(let expected, let found): return subject + " has the shape \(found), not \(expected)"
            case .scalarType(let expected, let found): return subject + " has elements of \(found), not \(expected)"
            }
        }
    }

    /// All of them, in the order of the inputs and of the names.
    public let mismatches: [Mismatch]

    /// Compares every input with the first one. Reads no tensor.
    ///
    /// - Parameter promotesTypes: Whether floating-point types may differ.
    public init(of inputs: [MergeInput], promotesTypes: Bool = false) {
        var mismatches: [Mismatch] = []
        guard let first = inputs.first?.reader.tensors else {
            self.mismatches = []
            return
        }
        for input in inputs.dropFirst() {
            let others = input.reader.tensors
            func add(_ name: String, _ kind: Mismatch.Kind) {
                mismatches.append(Mismatch(input: input.reader.source, tensor: name, kind: kind))
            }
            for tensor in first {
                guard let position = others.position(of: tensor.name) else {
                    add(tensor.name, .missing)
                    continue
                }
                let other = others[position]
                if other.shape != tensor.shape {
                    add(tensor.name, .shape(expected: "\(tensor.shape)", found: "\(other.shape)"))
                }
                let isPromoted = promotesTypes && tensor.scalarType.hasAverage && other.scalarType.hasAverage
                if other.scalarType != tensor.scalarType, !isPromoted {
                    add(tensor.name, .scalarType(expected: "\(tensor.scalarType)", found: "\(other.scalarType)"))
                }
            }
            for tensor in others where first.position(of: tensor.name) == nil { add(tensor.name, .extra) }
        }
        self.mismatches = mismatches
    }

    /// - Throws: ``CairnError/Code/mismatch`` with every mismatch in the message, a line each.
    public func check() throws(CairnError) {
        guard let first = mismatches.first else { return }
        guard mismatches.count > 1 else {
            throw CairnError(.mismatch, "the inputs do not fit together: \(first)")
        }
        throw CairnError(
            .mismatch,
            "the inputs do not fit together, in \(mismatches.count) respects: "
                + mismatches.map(\.description).joined(separator: "; "))
    }
}

extension ScalarType {
    /// Whether elements of this type are numbers that can be averaged.
    package var hasAverage: Bool { isFloatingPoint && self != .f8e8m0 && kernelNumber != nil }

    /// The narrowest type that holds the numbers of both; both have an average.
    func promoted(with other: ScalarType) -> ScalarType {
        if self == other { return self }
        if self == .f64 || other == .f64 { return .f64 }
        // F16 and BF16, and the 8-bit types among themselves, have no narrower type in common.
        return .f32
    }
}
