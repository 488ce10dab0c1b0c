package import CairnBase
package import CairnStorage
package import CairnTensor

/// A tensor that is in memory already.
package struct HeldView: TensorView {
    private let tensor: Tensor
    package var scalarType: ScalarType { tensor.scalarType }
    package var shape: Shape { tensor.shape }

    package init(_ tensor: Tensor) { self.tensor = tensor }

    package func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try check(region, destinationByteCount: destination.byteCount)
        try RegionCopy.copy(
            tensor.scalarType, from: tensor.bytes, of: tensor.shape, region: region, into: &destination,
            of: region.shape, region: Region(whole: region.shape))
    }
}

/// A tensor of zeros.
package struct ZeroView: TensorView {
    package let scalarType: ScalarType
    package let shape: Shape

    package init(_ scalarType: ScalarType, _ shape: Shape) {
        self.scalarType = scalarType
        self.shape = shape
    }

    package func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try check(region, destinationByteCount: destination.byteCount)
        destination.withUnsafeMutableBytes { _ = $0.initializeMemory(as: UInt8.self, repeating: 0) }
    }
}

/// A tensor of a checkpoint.
package struct ReaderView: TensorView {
    private let reader: any CheckpointReader
    private let name: String
    package let scalarType: ScalarType
    package let shape: Shape

    package init(_ reader: any CheckpointReader, _ description: TensorDescription) {
        self.reader = reader
        name = description.name
        scalarType = description.scalarType
        shape = description.shape
    }

    package func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try reader.read(name, region: region, into: &destination)
    }
}

/// A tensor that is opened anew for every read: there may be more files than may be open at once.
package struct DeferredView: TensorView {
    package let scalarType: ScalarType
    package let shape: Shape
    private let open: @Sendable () throws(CairnError) -> any TensorView

    package init(
        _ scalarType: ScalarType, _ shape: Shape, open: @escaping @Sendable () throws(CairnError) -> any TensorView
    ) {
        self.scalarType = scalarType
        self.shape = shape
        self.open = open
    }

    package func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try open().read(region, into: &destination)
    }
}

/// Where the elements of a tensor are in a file: whole, contiguous, row-major and little-endian.
package struct FileTensor: TensorView {
    /// The file.
    package var file: any StorageFile
    /// The offset of the first element in the file, in bytes.
    package var byteOffset: Int
    /// The type of the elements.
    package var scalarType: ScalarType
    /// The tensor's shape.
    package var shape: Shape

    /// The most bytes that are read at once to be picked from.
    private static let blockByteCount = 1 << 20
    /// What is read over rather than asked for anew: about what a call to the system costs.
    private static let leastGap = 4096

    package init(file: any StorageFile, byteOffset: Int, scalarType: ScalarType, shape: Shape) {
        self.file = file
        self.byteOffset = byteOffset
        self.scalarType = scalarType
        self.shape = shape
    }

    /// Fills `destination` with a region, row-major.
    ///
    /// Runs of the region that lie close together are read at once, into a block of at most 1 MiB; in between no more
    /// is read than a page or another run's length. Longer runs go straight to the destination.
    package func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try check(region, destinationByteCount: destination.byteCount)
        guard region.elementCount > 0 else { return }
        var runs = RegionRuns(of: region, in: shape)
        let runByteCount = byteIndex(of: runs.runLength)
        if runs.count == 1 || runByteCount >= Self.blockByteCount / 2 {
            var written = 0
            while let element = runs.next() {
                var part = destination.part(written..<written + runByteCount)
                try file.read(at: byteOffset + byteIndex(of: element), into: &part)
                written += runByteCount
            }
            return
        }
        try readPicking(&runs, runByteCount: runByteCount, into: &destination)
    }

    private func readPicking(
        _ runs: inout RegionRuns, runByteCount: Int, into destination: inout MutableRawSpan
    ) throws(CairnError) {
        let gap = max(Self.leastGap, runByteCount)
        var block: [UInt8] = []
        var starts: [Int] = []
        var written = 0
        var next = runs.next().map(byteIndex)
        while let first = next {
            starts.removeAll(keepingCapacity: true)
            var end = first
            while let start = next, starts.isEmpty || start - end <= gap,
                start + runByteCount - first <= Self.blockByteCount
            {
                starts.append(start)
                end = start + runByteCount
                next = runs.next().map(byteIndex)
            }
            if block.count < end - first { block = [UInt8](repeating: 0, count: end - first) }
            var span = block.mutableSpan
            var bytes = span.mutableBytes
            var part = bytes.part(0..<end - first)
            try file.read(at: byteOffset + first, into: &part)
            block.withUnsafeBytes { source in
                destination.withUnsafeMutableBytes { target in
                    guard let from = source.baseAddress, let into = target.baseAddress else { return }
                    for start in starts {
                        (into + written).copyMemory(from: from + (start - first), byteCount: runByteCount)
                        written += runByteCount
                    }
                }
            }
        }
    }

    /// The offset of an element in the tensor, in bytes. Cannot overflow: the tensor's size in bytes is representable.
    private func byteIndex(of element: Int) -> Int {
        let (groups, rest) = element.quotientAndRemainder(dividingBy: 8)
        return groups * scalarType.bitWidth + rest * scalarType.bitWidth / 8
    }
}
