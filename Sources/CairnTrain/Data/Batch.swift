/// Examples gathered for one step: either `inputs` (tokens) or `features` (numbers) is filled, and `targets`.
package struct Batch: Sendable {
    /// [example, position]
    package var inputs: [Int32] = []
    /// [example, feature]
    package var features: [Float] = []
    /// [example, position]; for a classifier one a row
    package var targets: [Int32] = []
    package var exampleCount = 0

    package init() {}

    mutating func removeAll() {
        inputs.removeAll(keepingCapacity: true)
        features.removeAll(keepingCapacity: true)
        targets.removeAll(keepingCapacity: true)
        exampleCount = 0
    }
}

/// Part of a batch by address.
///
/// `@unchecked Sendable`: read only, and only while the batch is borrowed.
package struct Examples: @unchecked Sendable {
    let inputs: UnsafePointer<Int32>?
    let inputStride: Int
    let features: UnsafePointer<Float>?
    let featureStride: Int
    let targets: UnsafePointer<Int32>
    let targetStride: Int
    let count: Int

    /// A range of these.
    package subscript(range: Range<Int>) -> Examples {
        Examples(
            inputs: inputs.map { $0 + range.lowerBound * inputStride }, inputStride: inputStride,
            features: features.map { $0 + range.lowerBound * featureStride }, featureStride: featureStride,
            targets: targets + range.lowerBound * targetStride, targetStride: targetStride, count: range.count)
    }
}

extension Batch {
    /// Calls `body` with all examples by address.
    package func withExamples<Result>(_ body: (Examples) throws -> Result) rethrows -> Result {
        guard exampleCount > 0 else { return try withNoExamples(body) }
        return try inputs.withUnsafeBufferPointer { inputs in
            try features.withUnsafeBufferPointer { features in
                try targets.withUnsafeBufferPointer { targets in
                    guard let firstTarget = targets.baseAddress else { preconditionFailure("examples without targets") }
                    return try body(
                        Examples(
                            inputs: inputs.isEmpty ? nil : inputs.baseAddress,
                            inputStride: inputs.count / exampleCount,
                            features: features.isEmpty ? nil : features.baseAddress,
                            featureStride: features.count / exampleCount, targets: firstTarget,
                            targetStride: targets.count / exampleCount, count: exampleCount))
                }
            }
        }
    }

    /// No examples of tokens: a pass over them computes nothing.
    private func withNoExamples<Result>(_ body: (Examples) throws -> Result) rethrows -> Result {
        try withUnsafePointer(to: Int32(0)) { nothing in
            try body(
                Examples(
                    inputs: nothing, inputStride: 0, features: nil, featureStride: 0, targets: nothing,
                    targetStride: 0, count: 0))
        }
    }
}
