import CairnBase
import CairnCheckpoint
import CairnTensor

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// A tensor of normal random numbers around zero, which follow from a seed, the tensor's name and the place of each element:
/// every region has the same numbers in whatever order it is read.
struct DrawnView: TensorView {
    let scalarType: ScalarType
    let shape: Shape
    private let deviation: Double
    private let key: UInt64

    init(_ description: TensorDescription, deviation: Double, seed: UInt64) {
        scalarType = description.scalarType
        shape = description.shape
        self.deviation = deviation
        // FNV-1a of the name.
        let name = description.name.utf8.reduce(0xCBF2_9CE4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x0000_0100_0000_01B3 }
        key = Self.mixed(Self.mixed(seed) ^ name)
    }

    func read(_ region: Region, into destination: inout MutableRawSpan) throws(CairnError) {
        try check(region, destinationByteCount: destination.byteCount)
        guard region.elementCount > 0 else { return }
        var runs = RegionRuns(of: region, in: shape)
        let width = scalarType.byteWidth ?? 1
        var numbers = [Double](repeating: 0, count: runs.runLength)
        var written = 0
        while let first = runs.next() {
            for index in numbers.indices { numbers[index] = number(at: first + index) * deviation }
            var part = destination.part(written..<written + numbers.count * width)
            try ScalarConversion.convert(numbers.span.bytes, from: .f64, into: &part, to: scalarType)
            written += numbers.count * width
        }
    }

    /// One of a pair of normal numbers (Box and Muller 1958).
    private func number(at index: Int) -> Double {
        let pair = UInt64(index / 2)
        // 53 bits each, the first never zero.
        let radius = (-2 * log((Double(bits(2 * pair)) + 1) * 0x1p-53)).squareRoot()
        let angle = 2 * Double.pi * Double(bits(2 * pair + 1)) * 0x1p-53
        return radius * (index.isMultiple(of: 2) ? cos(angle) : sin(angle))
    }

    private func bits(_ counter: UInt64) -> UInt64 { Self.mixed(key &+ counter &* 0x9E37_79B9_7F4A_7C15) >> 11 }

    /// The finalizer of SplitMix64 (Steele, Lea and Flood 2014).
    private static func mixed(_ value: UInt64) -> UInt64 {
        var z = value &+ 0x9E37_79B9_7F4A_7C15
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
