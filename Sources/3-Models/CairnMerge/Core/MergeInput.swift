package import CairnBase
public import CairnCheckpoint
public import CairnTensor

/// A checkpoint that takes part in a merge: any reader, and what the result's lineage says of it.
public struct MergeInput: Sendable {
    /// The checkpoint.
    package var reader: any CheckpointReader
    /// What the lineage of the result says of it; the coefficient is filled in by the method.
    package var parent: Lineage.Parent

    /// - Parameter parent: What the lineage says. Without it: the reader's source and, of Cairn's own checkpoints, step and
    ///   save id.
    public init(_ reader: any CheckpointReader, parent: Lineage.Parent? = nil) {
        self.reader = reader
        self.parent =
            parent
            ?? Lineage.Parent(step: reader.identity?.step, saveID: reader.identity?.saveID, source: reader.source)
    }
}

/// How a merge computes, whatever its method.
public struct MergeOptions: Sendable {
    /// The precision of sums.
    public enum Accumulation: Sendable, Hashable {
        /// Double where one of a tensor's inputs is, else single.
        case automatic
        case single
        case double
    }

    /// What becomes of tensors whose elements are not real floating-point numbers, and so have no average: integers,
    /// booleans, complex and packed numbers, power-of-two scales.
    public enum OtherTensors: Sendable, Hashable {
        /// The one that all inputs agree on, byte by byte, which is checked as it is read.
        case equal
        /// The first input's.
        case first
        /// The last input's.
        case last
    }

    /// The precision of sums.
    public var accumulation = Accumulation.automatic
    /// The type of the result's floating-point tensors; `nil` for the inputs' own.
    public var outputType: ScalarType?
    /// Whether inputs may have floating-point tensors of different types, the result then having the widest.
    public var promotesTypes = false
    /// What becomes of tensors that have no average.
    public var otherTensors = OtherTensors.equal
    /// Chooses the random elements of DARE, with the tensors' names and nothing else.
    public var seed: UInt64 = 0
    /// Reads inputs from mapped files where that is possible: for many evaluations of one merge after another. Bytes are
    /// then not verified, and count as the process's memory as long as no other process needs it.
    public var mapped = false
    /// How many threads compute, the caller's among them.
    public var concurrency = Int.max
    /// Called before each piece of work, from any thread; throwing stops what is being read.
    package var interruption: @Sendable () throws -> Void = {}
    /// How many bytes of one input a thread works on at a time.
    package var chunkByteCount = 512 << 10

    public init() {}
}

/// Whether checkpoints have the same tensors, and every respect in which they have not.
package struct SchemaComparison: Sendable {
    /// Something that stands in the way of a merge.
    package struct Mismatch: Sendable, Hashable, CustomStringConvertible {
        /// What kind of mismatch.
        package enum Kind: Sendable, Hashable {
            /// An input lacks a tensor that the first one has.
            case missing
            /// An input has a tensor that the first one lacks.
            case extra
            case shape(expected: String, found: String)
            case scalarType(expected: String, found: String)
        }

        /// The input, as its reader calls itself.
        package var input: String
        package var tensor: String
        package var kind: Kind

        /// Such as `b.safetensors: tensor "x" is missing`.
        package var description: String {
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
    package let mismatches: [Mismatch]

    /// Compares every input with the first one. Reads no tensor.
    ///
    /// - Parameter promotesTypes: Whether floating-point types may differ.
    package init(of inputs: [MergeInput], promotesTypes: Bool = false) {
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
    package func check() throws(CairnError) {
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
