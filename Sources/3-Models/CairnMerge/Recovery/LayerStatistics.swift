import CairnBase
import CairnCheckpoint
import CairnTensor

/// Sums over the elements of stored tensors, in double precision and in order.
struct ElementSums {
    private(set) var count = 0.0
    private(set) var sum = 0.0
    private(set) var squares = 0.0

    var mean: Double { count > 0 ? sum / count : 0 }
    /// Of the elements as they are.
    var standardDeviation: Double { count > 0 ? max(0, squares / count - mean * mean).squareRoot() : 0 }

    /// - Throws: ``CairnError/Code/unsupported`` for elements that are not real numbers, and what reading throws.
    init(of tensor: TensorDescription, in reader: any CheckpointReader) throws {
        guard ScalarConversion.isSupported(from: tensor.scalarType, to: .f64) else {
            throw CairnError(
                .unsupported, "elements of this type are not numbers to sum",
                .init(file: reader.source, tensor: tensor.name, found: "\(tensor.scalarType)"))
        }
        let view = ReaderView(reader, tensor)
        var numbers: [Double] = []
        for region in view.slabs(of: Region(whole: tensor.shape), byteLimit: 1 << 20) {
            let stored = try view.bytes(of: region)
            if numbers.count < region.elementCount { numbers = [Double](repeating: 0, count: region.elementCount) }
            var span = numbers.mutableSpan
            var bytes = span.mutableBytes
            var target = bytes.part(0..<region.elementCount * MemoryLayout<Double>.stride)
            try ScalarConversion.convert(stored.span.bytes, from: tensor.scalarType, into: &target, to: .f64)
            for index in 0..<region.elementCount {
                sum += numbers[index]
                squares += numbers[index] * numbers[index]
            }
            count += Double(region.elementCount)
        }
    }
}

/// What a checkpoint says of Adam's steps: how many there were, and how fast its second moments forget.
struct AdamConstants {
    /// What is taken where the checkpoint does not say: PyTorch's default.
    static let usualBeta2 = 0.999

    private let given: Double?
    private let reader: any CheckpointReader
    private let leaves: [(path: String, value: Value)]

    /// - Parameter beta2: What the caller says.
    init(_ reader: any CheckpointReader, beta2: Double?) {
        given = beta2
        self.reader = reader
        leaves = reader.values.flatMap { Self.leaves($0.value, at: $0.name) }
    }

    /// Everything in a nested value, each at its path; lists of numbers whole.
    static func leaves(_ value: Value, at path: String) -> [(path: String, value: Value)] {
        switch value {
        case .dictionary(let members):
            members.sorted { ExactString($0.key) < ExactString($1.key) }.flatMap { leaves($0.value, at: "\(path).\($0.key)") }
        case .list(let elements) where elements.contains { $0.isNested }:
            elements.enumerated().flatMap { leaves($0.element, at: "\(path).\($0.offset)") }
        default: [(path, value)]
        }
    }

    /// β₂, and whether that is a guess.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` where groups of parameters differ.
    func beta2() throws(CairnError) -> (value: Double, isGuess: Bool) {
        if let given { return (given, false) }
        var found: Set<Double> = []
        for (path, value) in leaves {
            let last = path.split(separator: ".").last ?? ""
            if last == "beta2", let number = value.number { found.insert(number) }
            if last == "betas", case .list(let both) = value, both.count == 2, let number = both[1].number {
                found.insert(number)
            }
        }
        // What is flattened further has a number of its own for each.
        for (path, value) in leaves where path.hasSuffix(".betas.1") {
            if let number = value.number { found.insert(number) }
        }
        guard found.count < 2 else {
            throw CairnError(
                .invalidArgument, "groups of parameters have different second betas",
                .init(
                    file: reader.source, found: found.sorted().map { "\($0)" }.joined(separator: ", "),
                    advice: "say which is meant with --beta2"))
        }
        guard let only = found.first, only >= 0, only < 1 else { return (Self.usualBeta2, true) }
        return (only, false)
    }

    /// How many steps a parameter's moments have seen; `nil` where the checkpoint does not say.
    func step(of parameter: ParameterState) throws -> Double? {
        for part in parameter.parts(.step) where part.tensor.shape.elementCount == 1 {
            return try reader.tensor(part.tensor.name).converted(to: .f64).elements(as: Double.self).first
        }
        let steps = leaves.filter { path, value in value.number != nil && Self.isStep(path) }
        let own = steps.first { path, _ in StatePart(path).map { $0.kind == .step && parameter.isNamed(by: $0) } ?? false }
        if let number = own?.value.number { return number }
        let restarts = leaves.first { $0.path == "\(OptimizerRestarts.path).\(parameter.name).step" }?.value.number ?? 0
        // One number for all: that of an optimizer, or of the group of its parameters.
        let common = Set(steps.filter { Self.isCommonStep($0.path) }.compactMap(\.value.number))
        return common.count == 1 ? common.first.map { $0 - restarts } : nil
    }

    private static func isStep(_ path: String) -> Bool { path.hasSuffix(".step") || path.hasSuffix(".iter") }

    private static func isCommonStep(_ path: String) -> Bool {
        let parts = path.split(separator: ".")
        return parts.count == 2 && parts[0].hasPrefix("optim") || parts.contains("param_groups")
    }
}

/// Where the example trainer's values say at which step the moments of a parameter began anew.
enum OptimizerRestarts {
    static let value = "optimizer"
    static let key = "restarts"
    static let path = "optimizer.restarts"
}

extension ParameterState {
    /// Whether a part is of this parameter, as its optimizer names it.
    func isNamed(by part: StatePart) -> Bool {
        let own = ExactString(part.parameter)
        return ExactString(name) == own || parts.contains { ExactString($0.part.parameter) == own }
    }
}

extension Value {
    /// The number that it is, if it is one.
    var number: Double? {
        switch self {
        case .integer(let value): Double(value)
        case .unsigned(let value): Double(value)
        case .double(let value): value
        default: nil
        }
    }

    fileprivate var isNested: Bool {
        switch self {
        case .list, .dictionary: true
        default: false
        }
    }
}
