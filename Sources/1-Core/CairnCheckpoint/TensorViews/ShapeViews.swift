package import CairnBase
package import CairnTensor

/// A tensor with its dimensions in another order.
package struct TransposedView: TensorView {
    private let base: any TensorView
    /// Dimension i of this tensor is `order[i]` of the base.
    private let order: [Int]
    package let shape: Shape
    private let width: Int

    package var scalarType: ScalarType { base.scalarType }
    package var hasChecksums: Bool { base.hasChecksums }

    package init(_ base: any TensorView, order: [Int]) throws(CairnError) {
        guard let width = base.scalarType.byteWidth else {
            throw CairnError(.unsupported, "the dimensions of packed elements cannot be exchanged")
        }
        self.base = base
        self.order = order
        self.width = width
        shape = try Shape(checking: order.map { base.shape[$0] })
    }

    package func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try check(region, destinationByteCount: destination.byteCount)
        guard region.elementCount > 0 else { return }
        var offsets = [Int](repeating: 0, count: order.count)
        var extents = offsets
        for (index, dimension) in order.enumerated() {
            offsets[dimension] = region.offsets[index]
            extents[dimension] = region.shape[index]
        }
        let source = try Region(offsets: offsets, shape: Shape(checking: extents))
        let block = try base.bytes(of: source)
        let sourceStrides = source.shape.strides
        let strides = order.map { sourceStrides[$0] }
        block.withUnsafeBytes { input in
            destination.withUnsafeMutableBytes { output in
                switch width {
                case 1: Self.copy(input, output, region.shape.extents, strides, as: UInt8.self)
                case 2: Self.copy(input, output, region.shape.extents, strides, as: UInt16.self)
                case 4: Self.copy(input, output, region.shape.extents, strides, as: UInt32.self)
                default: Self.copy(input, output, region.shape.extents, strides, as: UInt64.self)
                }
            }
        }
    }

    /// Writes the elements front to back, taking each from where its strides say.
    @inline(__always)
    private static func copy<Element: FixedWidthInteger & BitwiseCopyable>(
        _ input: UnsafeRawBufferPointer, _ output: UnsafeMutableRawBufferPointer, _ extents: [Int], _ strides: [Int],
        as type: Element.Type
    ) {
        let size = MemoryLayout<Element>.size
        let inner = extents.last ?? 1, innerStride = strides.last ?? 1
        let outer = Array(extents.dropLast())
        var index = [Int](repeating: 0, count: outer.count)
        var from = 0, to = 0
        let count = outer.reduce(1, *)
        for _ in 0..<count {
            var position = from
            for _ in 0..<inner {
                output.storeBytes(
                    of: input.loadUnaligned(fromByteOffset: position * size, as: Element.self),
                    toByteOffset: to * size, as: Element.self)
                position += innerStride
                to += 1
            }
            var dimension = outer.count - 1
            while dimension >= 0 {
                index[dimension] += 1
                from += strides[dimension]
                if index[dimension] < outer[dimension] { break }
                from -= strides[dimension] * outer[dimension]
                index[dimension] = 0
                dimension -= 1
            }
        }
    }
}

/// A tensor whose elements, in row-major order, are runs of one-dimensional tensors.
package struct FlatMapping: RegionMapping {
    /// A run of an input.
    package struct Run: Sendable {
        /// Where the run is in the result, counted in elements.
        package var range: Range<Int>
        /// The first element in the input.
        package var start: Int

        package init(_ range: Range<Int>, start: Int = 0) {
            self.range = range
            self.start = start
        }
    }

    package let shape: Shape
    package let hasPadding: Bool
    /// In the order of the inputs, ascending.
    private let runs: [Run]

    /// - Parameters:
    ///   - runs: One for each input, ascending and disjoint.
    ///   - hasPadding: Whether what lies between and behind them is zero. Otherwise they make up the whole.
    package init(shape: Shape, runs: [Run], hasPadding: Bool = false) {
        self.shape = shape
        self.runs = runs
        self.hasPadding = hasPadding
    }

    package func pieces(of region: Region) throws(CairnError) -> [MappedPiece] {
        var pieces: [MappedPiece] = []
        let wanted = RegionRuns(of: region, in: shape)
        for begin in wanted {
            let end = begin + wanted.runLength
            for input in first(endingAfter: begin)..<runs.count {
                let run = runs[input]
                guard run.range.lowerBound < end else { break }
                let common = run.range.clamped(to: begin..<end)
                for (range, box) in RunBoxes.boxes(of: common, in: shape) {
                    let start = run.start + range.lowerBound - run.range.lowerBound
                    pieces.append(
                        MappedPiece(
                            input: input, source: try Region(offsets: [start], shape: Shape(checking: [range.count])),
                            target: box))
                }
            }
        }
        return pieces
    }

    /// The first run that ends behind an element.
    private func first(endingAfter element: Int) -> Int {
        var low = 0, high = runs.count
        while low < high {
            let middle = (low + high) / 2
            if runs[middle].range.upperBound > element { high = middle } else { low = middle + 1 }
        }
        return low
    }
}

/// The elements of a tensor, in row-major order, along one dimension.
package struct FlatteningMapping: RegionMapping {
    package let shape: Shape
    private let original: Shape

    package init(_ original: Shape) throws(CairnError) {
        self.original = original
        shape = try Shape(checking: [original.elementCount])
    }

    package func pieces(of region: Region) throws(CairnError) -> [MappedPiece] {
        var pieces: [MappedPiece] = []
        for (range, box) in RunBoxes.boxes(of: region.range(0), in: original) {
            pieces.append(
                MappedPiece(
                    input: 0, source: box,
                    target: try Region(offsets: [range.lowerBound], shape: Shape(checking: [range.count]))))
        }
        return pieces
    }
}

extension TensorView {
    /// The same elements, in row-major order, under another shape.
    ///
    /// - Throws: ``CairnError/Code/mismatch`` when the number of elements differs.
    package func reshaped(_ shape: Shape) throws(CairnError) -> any TensorView {
        guard self.shape.elementCount == shape.elementCount, !scalarType.isPacked else {
            throw CairnError(
                .mismatch, "a tensor has another number of elements than its shape",
                .init(expected: "\(shape)", found: "\(self.shape)"))
        }
        guard self.shape != shape else { return self }
        let flat: any TensorView =
            self.shape.dimensionCount == 1 ? self : MappedView(self, try FlatteningMapping(self.shape))
        guard shape.dimensionCount != 1 else { return flat }
        return MappedView(flat, FlatMapping(shape: shape, runs: [.init(0..<shape.elementCount)]))
    }
}

/// Boxes that make up a run of a row-major tensor: a head, whole rows, a tail, and so again inside head and tail.
package enum RunBoxes {
    /// - Returns: The part of the run and its box, in order.
    package static func boxes(of run: Range<Int>, in shape: Shape) -> [(range: Range<Int>, box: Region)] {
        var result: [(range: Range<Int>, box: Region)] = []
        func split(_ run: Range<Int>, from dimension: Int, _ outer: [Int], base: Int) {
            guard !run.isEmpty else { return }
            guard dimension < shape.dimensionCount else {
                append(outer, [Int](repeating: 1, count: outer.count), base + run.lowerBound..<base + run.upperBound)
                return
            }
            let size = shape.extents[(dimension + 1)...].reduce(1, *)
            let firstWhole = run.lowerBound.dividedRoundingUp(by: size), endWhole = run.upperBound / size
            func descend(_ part: Range<Int>) {
                guard !part.isEmpty else { return }
                let row = part.lowerBound / size
                split(
                    part.lowerBound - row * size..<part.upperBound - row * size, from: dimension + 1, outer + [row],
                    base: base + row * size)
            }
            guard firstWhole <= endWhole else { return descend(run) }
            descend(run.lowerBound..<firstWhole * size)
            if firstWhole < endWhole {
                let rest = shape.extents[(dimension + 1)...]
                append(
                    outer + [firstWhole] + rest.map { _ in 0 },
                    outer.map { _ in 1 } + [endWhole - firstWhole] + rest,
                    base + firstWhole * size..<base + endWhole * size)
            }
            descend(max(endWhole, firstWhole) * size..<run.upperBound)
        }
        func append(_ offsets: [Int], _ extents: [Int], _ range: Range<Int>) {
            guard let shape = try? Shape(checking: extents), let box = try? Region(offsets: offsets, shape: shape)
            else { return }
            result.append((range, box))
        }
        split(run, from: 0, [], base: 0)
        return result
    }
}
