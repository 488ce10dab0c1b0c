package import CairnBase
package import CairnLayout
package import CairnTensor

/// Where conversions note what they lose, and for which tensor.
package struct LossRecorder: Sendable {
    private let ledger: LossLedger
    private let tensor: String

    package init(ledger: LossLedger, tensor: String) {
        self.ledger = ledger
        self.tensor = tensor
    }

    package func add(_ loss: ConversionLoss, in region: Region, shape: Shape, from source: ScalarType, to target: ScalarType) {
        ledger.add(loss, in: region, of: tensor, shape: shape, from: source, to: target)
    }
}

/// A tensor in another element type, converted as it is read, a block at a time.
package struct CastView: TensorView {
    /// How much of a region is converted at once, in bytes of the original type.
    private static let blockByteCount = 1 << 20

    private let base: any TensorView
    package let scalarType: ScalarType
    private let overflow: OverflowBehavior
    private let recorder: LossRecorder

    package var shape: Shape { base.shape }
    package var hasChecksums: Bool { base.hasChecksums }

    /// - Parameters:
    ///   - overflow: What becomes of numbers that the new type cannot hold.
    ///   - recorder: Where what is lost is noted.
    package init(
        _ base: any TensorView, to scalarType: ScalarType, overflow: OverflowBehavior = .ieee, recorder: LossRecorder
    ) {
        self.base = base
        self.scalarType = scalarType
        self.overflow = overflow
        self.recorder = recorder
    }

    package func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try check(region, destinationByteCount: destination.byteCount)
        var block: [UInt8] = []
        var written = 0
        for part in base.slabs(of: region, byteLimit: Self.blockByteCount) {
            let sourceByteCount = try base.byteCount(of: part)
            let byteCount = try byteCount(of: part)
            if block.count < sourceByteCount { block = [UInt8](repeating: 0, count: sourceByteCount) }
            var span = block.mutableSpan
            var bytes = span.mutableBytes
            var input = bytes.part(0..<sourceByteCount)
            try base.read(part, into: &input)
            var output = destination.part(written..<written + byteCount)
            let loss = try ScalarConversion.convertNotingLoss(
                block.span.bytes.extracting(0..<sourceByteCount), from: base.scalarType, into: &output, to: scalarType,
                overflow: overflow)
            recorder.add(loss, in: part, shape: shape, from: base.scalarType, to: scalarType)
            written += byteCount
        }
    }
}

/// A tensor whose numbers are stored with their bytes in the other order.
package struct ByteSwappedView: TensorView {
    private let base: any TensorView
    private let width: Int
    package var scalarType: ScalarType { base.scalarType }
    package var shape: Shape { base.shape }
    package var hasChecksums: Bool { base.hasChecksums }

    /// - Parameter width: How many bytes one number has; a complex one is two. By default as many as the type says.
    package init(_ base: any TensorView, width: Int? = nil) {
        self.base = base
        let type = base.scalarType
        self.width = width ?? (type.byteWidth ?? 1) / (type.isComplex ? 2 : 1)
    }

    package func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try base.read(region, into: &destination)
        destination.withUnsafeMutableBytes { bytes in
            switch width {
            case 2: Self.swap(bytes, as: UInt16.self)
            case 4: Self.swap(bytes, as: UInt32.self)
            case 8: Self.swap(bytes, as: UInt64.self)
            default: break
            }
        }
    }

    /// The bytes may begin anywhere.
    @inline(__always)
    private static func swap<Number: FixedWidthInteger & BitwiseCopyable>(
        _ bytes: UnsafeMutableRawBufferPointer, as type: Number.Type
    ) {
        let width = MemoryLayout<Number>.size
        for offset in stride(from: 0, through: bytes.count - width, by: width) {
            let number = bytes.loadUnaligned(fromByteOffset: offset, as: type)
            bytes.storeBytes(of: number.byteSwapped, toByteOffset: offset, as: type)
        }
    }
}

/// A tensor that is stored with the other sign, as PyTorch does for lazy negation and complex conjugation.
package struct NegatedView: TensorView {
    private let base: any TensorView
    private let isConjugated: Bool
    private let isNegated: Bool
    package var scalarType: ScalarType { base.scalarType }
    package var shape: Shape { base.shape }
    package var hasChecksums: Bool { base.hasChecksums }

    /// - Parameters:
    ///   - isConjugated: Whether imaginary parts have the other sign.
    ///   - isNegated: Whether all numbers have.
    package init(_ base: any TensorView, isConjugated: Bool, isNegated: Bool) {
        self.base = base
        self.isConjugated = isConjugated
        self.isNegated = isNegated
    }

    package func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try base.read(region, into: &destination)
        let isComplex = scalarType.isComplex
        let width = (scalarType.byteWidth ?? 1) / (isComplex ? 2 : 1)
        destination.withUnsafeMutableBytes { bytes in
            // The sign is the top bit of the last byte of every number.
            for number in 0..<bytes.count / width {
                let isImaginary = isComplex && number % 2 == 1
                if isNegated != (isConjugated && isImaginary) { bytes[number * width + width - 1] ^= 0x80 }
            }
        }
    }
}

/// The sum or mean of the partial values of a partial tensor, added in their order in double precision.
package struct ReducedView: TensorView {
    private let partials: [any TensorView]
    private let reduction: Reduction
    package let scalarType: ScalarType
    package let shape: Shape
    /// Where sums that are too large for the type are noted.
    private let recorder: LossRecorder

    package init(_ partials: [any TensorView], _ reduction: Reduction, recorder: LossRecorder) throws(CairnError) {
        guard let first = partials.first else {
            throw CairnError(.invalidArgument, "a partial tensor has no partial values")
        }
        guard first.scalarType.isFloatingPoint, ScalarConversion.isSupported(from: first.scalarType, to: .f64) else {
            throw CairnError(
                .unsupported, "only floating-point partial values are summed or averaged", .init(found: "\(first.scalarType)"))
        }
        self.partials = partials
        self.reduction = reduction
        self.recorder = recorder
        scalarType = first.scalarType
        shape = first.shape
    }

    package func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try check(region, destinationByteCount: destination.byteCount)
        var sums = [Double](repeating: 0, count: region.elementCount)
        for partial in partials {
            let block = try partial.bytes(of: region)
            var doubles = [Double](repeating: 0, count: region.elementCount)
            var span = doubles.mutableSpan
            var raw = span.mutableBytes
            try ScalarConversion.convert(block.span.bytes, from: scalarType, into: &raw, to: .f64)
            for index in sums.indices { sums[index] += doubles[index] }
        }
        if reduction == .mean {
            let count = Double(partials.count)
            for index in sums.indices { sums[index] /= count }
        }
        let loss = try ScalarConversion.convertNotingLoss(
            sums.span.bytes, from: .f64, into: &destination, to: scalarType)
        recorder.add(loss, in: region, shape: shape, from: .f64, to: scalarType)
    }
}

/// A tensor of which there are copies that must have the same bits: each read reads them all.
package struct EqualView: TensorView {
    /// A copy and what an error says of it when it differs.
    package struct Copy: Sendable {
        fileprivate let view: any TensorView
        fileprivate let context: CairnError.Context

        package init(_ view: any TensorView, _ context: CairnError.Context) {
            self.view = view
            self.context = context
        }
    }

    private let base: any TensorView
    private let copies: [Copy]
    private let message: String
    package var scalarType: ScalarType { base.scalarType }
    package var shape: Shape { base.shape }
    package var hasChecksums: Bool { base.hasChecksums }

    /// - Parameter message: What an error says when a copy differs.
    /// - Throws: ``CairnError/Code/mismatch`` when a copy has another type or shape.
    package init(_ base: any TensorView, copies: [Copy], message: String) throws(CairnError) {
        for copy in copies where copy.view.shape != base.shape || copy.view.scalarType != base.scalarType {
            var context = copy.context
            context.expected = "\(base.scalarType)\(base.shape)"
            context.found = "\(copy.view.scalarType)\(copy.view.shape)"
            throw CairnError(.mismatch, message, context)
        }
        self.base = base
        self.copies = copies
        self.message = message
    }

    /// A tensor that every rank holds whole.
    ///
    /// - Throws: ``CairnError/Code/mismatch`` when types or shapes differ, or there are none.
    package init(copies: [any TensorView]) throws(CairnError) {
        guard let first = copies.first else { throw CairnError(.mismatch, "no rank has a copy of a tensor") }
        try self.init(
            first, copies: copies.enumerated().dropFirst().map { .init($0.element, .init(rank: $0.offset)) },
            message: "the ranks' copies of a tensor differ")
    }

    package func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try base.read(region, into: &destination)
        for copy in copies {
            let found = try copy.view.bytes(of: region)
            let isEqual = destination.withUnsafeMutableBytes { expected in
                found.withUnsafeBytes { $0.elementsEqual(UnsafeRawBufferPointer(expected)) }
            }
            guard isEqual else {
                var context = copy.context
                context.found = "other bits in \(region)"
                throw CairnError(.mismatch, message, context)
            }
        }
    }
}
