import ArgumentParser
import CairnCommunication
import CairnLayout
import CairnTrain

/// How a run is divided over ranks, which are threads of this process.
struct ParallelOptions: ParsableArguments {
    @Option(help: "How many ranks train together; each is a thread.")
    var ranks: Int?
    @Option(help: "What they divide: dp the batch, tp the matrices, pp the layers, as in dp=2,tp=2. By default dp.")
    var mesh: String?
    @Flag(help: "Share the optimizer's state over dp (ZeRO stage 1).")
    var zero = false
    @Option(help: "Into how many parts a rank's examples go through the pipeline.")
    var microBatches: Int?

    /// `nil` for a run on one rank.
    func configuration() throws -> ParallelConfiguration? {
        guard ranks != nil || mesh != nil else {
            if zero || microBatches != nil { throw ValidationError("--zero and --micro-batches need --ranks or --mesh") }
            return nil
        }
        let mesh = try DeviceMesh(parsing: mesh ?? "dp=\(ranks ?? 1)")
        if let ranks, ranks != mesh.rankCount {
            throw ValidationError("the mesh \(mesh) has \(mesh.rankCount) ranks, not \(ranks)")
        }
        guard mesh.rankCount <= Self.largestRankCount else {
            throw ValidationError("at most \(Self.largestRankCount) ranks run as threads")
        }
        var configuration = ParallelConfiguration(mesh: mesh, zero: zero)
        configuration.microBatches = microBatches
        return configuration
    }

    private static let largestRankCount = 64
}
