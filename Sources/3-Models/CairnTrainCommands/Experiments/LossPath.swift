import Cairn
import CairnCheckpoint
import CairnMerge
import CairnTrain

/// The validation losses along a way from one stored model to another.
struct LossPath {
    /// Where on the way, the first model at 0, the second at 1.
    var positions: [Double]
    var evaluations: [Evaluation]

    var losses: [Double] { evaluations.map(\.loss) }

    /// How far the loss rises above the straight line between its ends; zero where it nowhere does.
    var barrier: Double {
        guard let first = losses.first, let last = losses.last else { return .nan }
        return zip(positions, losses).map { $1 - (1 - $0) * first - $0 * last }.max() ?? .nan
    }

    /// The points of a curve over the way in hundredths.
    var points: [(step: Int, loss: Double)] {
        zip(positions, losses).map { (Int(($0 * 100).rounded()), $1) }
    }
}

/// Evaluates weights that stored checkpoints have or that are computed of them as they are read: no point of a way, or
/// of a plane, is written.
struct WeightSpace {
    /// Whose model and data it is; its own weights do not matter.
    let trainer: Trainer
    /// How many validation examples are evaluated.
    let limit: Int

    func evaluation(_ reader: any CheckpointReader) throws -> Evaluation {
        var weights: [String: Tensor] = [:]
        for (name, _) in trainer.parameters { weights[name] = try reader.tensor(name) }
        return try trainer.evaluate(weights: weights, limit: limit)
    }

    /// The weights of a checkpoint of a run, without the optimizer's state.
    static func weights(of reader: any CheckpointReader) throws(CairnError) -> SelectedReader {
        try SelectedReader(reader, include: ["model.*"])
    }

    /// - Parameter moves: Which tensors go from the first to the second; the others stay those of the first.
    func path(
        _ first: any CheckpointReader, _ second: any CheckpointReader, pointCount: Int = 25,
        moving moves: (String) -> Bool = { _ in true }
    ) throws -> LossPath {
        let (first, second) = (try MergeInput(Self.weights(of: first)), try MergeInput(Self.weights(of: second)))
        let positions = (0..<pointCount).map { Double($0) / Double(pointCount - 1) }
        let evaluations = try positions.map { position in
            try evaluation(
                MergedCheckpoint(interpolating: first, second, options: Self.options) { moves($0) ? position : 0 })
        }
        return LossPath(positions: positions, evaluations: evaluations)
    }

    private static var options: MergeOptions {
        var options = MergeOptions()
        options.mapped = true
        return options
    }

    /// The losses over the plane through three models, in its own proportions.
    ///
    /// - Parameters:
    ///   - names: What the three are called.
    ///   - size: How many points each side has.
    ///   - ceiling: What higher losses are drawn as.
    func plane(
        _ models: [any CheckpointReader], names: [String], label: String, size: Int, ceiling: Double
    ) throws -> HeatMap {
        let inputs = try models.map { try MergeInput(Self.weights(of: $0)) }
        let corners = try Self.corners(inputs.map(\.reader))
        // A square with the three in its middle.
        func middle(_ places: [Double]) -> Double { ((places.min() ?? 0) + (places.max() ?? 0)) / 2 }
        func extent(_ places: [Double]) -> Double { (places.max() ?? 0) - (places.min() ?? 0) }
        let (across, up) = (corners.map(\.x), corners.map(\.y))
        let half = 0.7 * max(extent(across), extent(up))
        let x = middle(across) - half...middle(across) + half, y = middle(up) - half...middle(up) + half
        let steps = max(2, size) - 1
        let values = try (0...steps).map { row in
            let b = (y.lowerBound + 2 * half * Double(row) / Double(steps)) / corners[2].y
            return try (0...steps).map { column in
                let place = x.lowerBound + 2 * half * Double(column) / Double(steps)
                let a = (place - b * corners[2].x) / corners[1].x
                return try evaluation(
                    MergedCheckpoint(inputs, operation: "plane", options: Self.options) { _ in
                        .linear(weights: [1 - a - b, a, b], normalizes: false)
                    }
                ).loss
            }
        }
        let marks = zip(corners, names).map { HeatMap.Mark(x: $0.x, y: $0.y, name: $1) }
        return HeatMap(label: label, values: values, x: x, y: y, marks: marks, ceiling: ceiling)
    }

    /// Where three models lie in their plane: the first at the origin, the second on the axis of x, the third above it.
    private static func corners(_ models: [any CheckpointReader]) throws -> [(x: Double, y: Double)] {
        var (own, mixed, other) = (0.0, 0.0, 0.0)
        for tensor in models[0].tensors where tensor.tiedTo == nil {
            let values = try models.map { try $0.tensor(tensor.name).converted(to: .f64).elements(as: Double.self) }
            for index in values[0].indices {
                let (u, v) = (values[1][index] - values[0][index], values[2][index] - values[0][index])
                own += u * u
                mixed += u * v
                other += v * v
            }
        }
        let length = own.squareRoot(), along = mixed / length
        let height = (other - along * along).squareRoot()
        guard length > 0, height > 0 else {
            throw CairnError(.invalidArgument, "three models on one line span no plane")
        }
        return [(0, 0), (length, 0), (along, height)]
    }
}

/// The mean of several ways over the same positions, as a curve.
func meanPath(_ paths: [LossPath]) -> [(step: Int, loss: Double)] { meanCurve(paths.map(\.points)) }
