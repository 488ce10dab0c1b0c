import ArgumentParser
import CairnLayout
import CairnTrain

/// How a run is sharded over ranks.
struct ParallelOptions: ParsableArguments {
    @Option(help: "How many ranks train together.")
    var ranks: Int?
    @Option(help: """
        What they divide: dp the batch, ep the batch and the experts, tp the matrices, pp the layers, as in dp=2,tp=2. \
        By default dp.
        """)
    var mesh: String?
    @Flag(help: "Share the optimizer's state over dp (ZeRO stage 1).")
    var zero = false
    @Option(help: "Into how many parts a rank's examples go through the pipeline.")
    var microBatches: Int?

    /// How many ranks the options ask for, if they say.
    func rankCount() throws -> Int? {
        guard let mesh else { return ranks }
        let count = try DeviceMesh(parsing: mesh).rankCount
        if let ranks, ranks != count { throw ValidationError("the mesh \(mesh) has \(count) ranks, not \(ranks)") }
        return count
    }

    func configuration(rankCount: Int) throws -> ParallelConfiguration {
        var configuration = ParallelConfiguration(
            mesh: try DeviceMesh(parsing: mesh ?? "dp=\(rankCount)"), zero: zero)
        configuration.microBatches = microBatches
        return configuration
    }

    /// The options as they would be typed.
    var arguments: [String] {
        var words: [String] = []
        if let ranks { words += ["--ranks", "\(ranks)"] }
        if let mesh { words += ["--mesh", mesh] }
        if zero { words.append("--zero") }
        if let microBatches { words += ["--micro-batches", "\(microBatches)"] }
        return words
    }
}
