import CairnCheckpoint
import CairnTensor
import CairnTesting

/// Random numbers and tensors.
struct RandomTensors {
    var generator: SeededGenerator

    init(seed: UInt64) { generator = SeededGenerator(seed: seed) }

    /// Near a normal distribution, with some exact zeros.
    mutating func number() -> Float {
        if Int.random(in: 0..<40, using: &generator) == 0 { return 0 }
        return (0..<6).reduce(Float(0)) { sum, _ in sum + Float.random(in: -1...1, using: &generator) }
    }

    mutating func floats(_ count: Int) -> [Float] { (0..<count).map { _ in number() } }

    mutating func tensor(_ shape: Shape, _ type: ScalarType = .f32) throws -> Tensor {
        try Tensor(floats(shape.elementCount), shape).converted(to: type)
    }

    mutating func shape() -> Shape {
        Shape((0..<Int.random(in: 0...3, using: &generator)).map { _ in Int.random(in: 1...17, using: &generator) })
    }
}

extension CheckpointReader {
    /// The elements of a tensor as doubles.
    func doubles(_ name: String) throws -> [Double] {
        try tensor(name).converted(to: .f64).elements(as: Double.self)
    }

    func floats(_ name: String) throws -> [Float] { try tensor(name).elements(as: Float.self) }
}
