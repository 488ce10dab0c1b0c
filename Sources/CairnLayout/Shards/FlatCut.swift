import CairnBase

/// A flattening step: which stretch of the row-major run of a local tensor each coordinate holds.
struct FlatCut: Sendable {
    /// The position of the mesh axis.
    let axis: Int
    let axisName: String
    let parts: Int
    private let flattening: Flattening

    init(_ flattening: Flattening, axis: Int, axisName: String, parts: Int) {
        self.flattening = flattening
        self.axis = axis
        self.axisName = axisName
        self.parts = parts
    }

    /// Checks that the parts hold a local tensor of `count` elements whole.
    func check(_ count: Int) throws(CairnError) {
        let start = flattening.start
        let end = start.adding(checked: count)
        switch flattening.partition {
        case .perTensor: return
        case .equal(let size):
            guard let end, end <= size * parts else {
                throw error("\(start) + \(count) elements in at most \(parts) x \(size)", end)
            }
        case .cuts(let cuts):
            guard let end, cuts[0] <= start, end <= cuts[parts] else {
                throw error("elements \(cuts[0])..<\(cuts[parts])", end)
            }
        }
    }

    private func error(_ expected: String, _ end: Int?) -> CairnError {
        CairnError(
            .invalidArgument, "the flat buffer of axis \"\(axisName)\" does not hold the whole tensor",
            .init(
                expected: expected, found: "\(flattening.start)..<\(end.map { "\($0)" } ?? "more than fits")",
                advice: "make starts and parts with Flattening.group from the local element counts"))
    }

    /// What a coordinate holds of a local tensor of `count` elements.
    func run(of coordinate: Int, count: Int) -> Range<Int> {
        start(of: coordinate, count: count)..<start(of: coordinate + 1, count: count)
    }

    /// The coordinate that holds an element of the local tensor.
    func coordinate(at position: Int, count: Int) -> Int {
        (0..<parts).firstPosition { start(of: $0 + 1, count: count) > position }
    }

    private func start(of coordinate: Int, count: Int) -> Int {
        let boundary =
            switch flattening.partition {
            case .perTensor:
                count.dividedRoundingUp(by: parts).multiplied(checked: coordinate) ?? count
            case .equal(let size): size * coordinate - flattening.start
            case .cuts(let cuts): cuts[coordinate] - flattening.start
            }
        return min(max(boundary, 0), count)
    }
}
