/// A symmetric matrix and its axes.
struct SymmetricMatrix: Sendable, Hashable {
    private(set) var elements: [Double]
    let count: Int

    init(identity count: Int) {
        self.count = count
        elements = [Double](repeating: 0, count: count * count)
        for index in 0..<count { elements[index * count + index] = 1 }
    }

    init(elements: [Double], count: Int) {
        self.elements = elements
        self.count = count
    }

    mutating func scale(by factor: Double) {
        for index in elements.indices { elements[index] *= factor }
    }

    /// Adds `factor` times the product of a vector with itself.
    mutating func add(_ factor: Double, _ vector: [Double]) {
        for row in 0..<count {
            for column in 0..<count { elements[row * count + column] += factor * vector[row] * vector[column] }
        }
    }

    /// The axes of the ellipsoid, as columns, and the square roots of the eigenvalues. (Jacobi's rotations)
    func axes() -> (axes: [Double], lengths: [Double]) {
        var a = elements
        var v = SymmetricMatrix(identity: count).elements
        for _ in 0..<100 {
            var off = 0.0, whole = 0.0
            for row in 0..<count {
                for column in 0..<count {
                    let square = a[row * count + column] * a[row * count + column]
                    whole += square
                    if row != column { off += square }
                }
            }
            if off <= 1e-30 * whole { break }
            for p in 0..<count {
                for q in p + 1..<max(p + 1, count) { rotate(&a, &v, p, q) }
            }
        }
        let lengths = (0..<count).map { max(0, a[$0 * count + $0]).squareRoot() }
        return (v, lengths)
    }

    private func rotate(_ a: inout [Double], _ v: inout [Double], _ p: Int, _ q: Int) {
        let off = a[p * count + q]
        guard off != 0 else { return }
        let ratio = (a[q * count + q] - a[p * count + p]) / (2 * off)
        let tangent = (ratio >= 0 ? 1.0 : -1.0) / (abs(ratio) + (ratio * ratio + 1).squareRoot())
        let cosine = 1 / (tangent * tangent + 1).squareRoot(), sine = tangent * cosine
        for k in 0..<count {
            let (x, y) = (a[k * count + p], a[k * count + q])
            a[k * count + p] = cosine * x - sine * y
            a[k * count + q] = sine * x + cosine * y
        }
        for k in 0..<count {
            let (x, y) = (a[p * count + k], a[q * count + k])
            a[p * count + k] = cosine * x - sine * y
            a[q * count + k] = sine * x + cosine * y
        }
        for k in 0..<count {
            let (x, y) = (v[k * count + p], v[k * count + q])
            v[k * count + p] = cosine * x - sine * y
            v[k * count + q] = sine * x + cosine * y
        }
    }

    /// A vector as the inverse square root of the matrix makes it.
    static func whiten(_ vector: [Double], _ axes: [Double], _ lengths: [Double]) -> [Double] {
        let count = vector.count
        var coordinates = [Double](repeating: 0, count: count)
        for column in 0..<count where lengths[column] > 0 {
            for row in 0..<count { coordinates[column] += axes[row * count + column] * vector[row] }
            coordinates[column] /= lengths[column]
        }
        return (0..<count).map { row in
            (0..<count).reduce(0) { $0 + axes[row * count + $1] * coordinates[$1] }
        }
    }
}
