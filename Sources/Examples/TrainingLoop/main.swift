// A training loop that may be killed at any moment: run it again and it continues, to the same bits.
//
//     cairn-example-training-loop FOLDER STEPS RANKS
//
// The model is a bigram language model: a table that says for each character how likely each next one is. The table and
// Adam's moments lie on the ranks by rows. A snapshot is taken every 50 steps and saved while training continues. What four
// ranks have saved, one may continue, or eight: the bits do not depend on the number of ranks.
//
// It reads from top to bottom: data, state, resuming, the loop, the result.

import Cairn  // tensors, layouts, checkpoints
import CairnCommunication  // ranks, here threads
import CairnSnapshot  // saving in the background
import Foundation  // exp, log, pow

// MARK: - Data and settings

let text: [UInt8] = Array(
    """
    Shall I compare thee to a summer's day? Thou art more lovely and more temperate: rough winds do shake the darling buds
    of May, and summer's lease hath all too short a date; sometime too hot the eye of heaven shines, and often is his gold
    complexion dimm'd; and every fair from fair sometime declines, by chance or nature's changing course untrimm'd; but
    thy eternal summer shall not fade, nor lose possession of that fair thou ow'st; nor shall death brag thou wander'st in
    his shade, when in eternal lines to time thou grow'st: so long as men can breathe or eyes can see, so long lives this,
    and this gives life to thee.
    """.utf8)
let pairCount = text.count - 1  // a sample is a character and the next one
let vocabulary = 128  // ASCII
let batchSize = 32
let learningRate: Float = 0.02
let (beta1, beta2): (Float, Float) = (0.9, 0.99)
let saveEvery = 50

// MARK: - State

/// Random numbers that can be saved: SplitMix64, whose state is one integer.
struct Generator: RandomNumberGenerator, Codable {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var bits = state
        bits = (bits ^ (bits >> 30)) &* 0xBF58_476D_1CE4_E5B9
        bits = (bits ^ (bits >> 27)) &* 0x94D0_49BB_1331_11EB
        return bits ^ (bits >> 31)
    }
}

/// What training depends on besides tensors, the same on every rank.
struct Progress: Codable {
    var step = 0
    var position = 0  // in the order of this epoch's samples
    var generator = Generator(state: 1337)
}

/// Every tensor of the state, whole, and how it lies on the ranks. All ranks make the same list.
func placedTensors(on mesh: DeviceMesh) throws -> [PlacedTensor] {
    let byRows = try Layout(mesh, ["tp": .shard(0)])
    return ["model.table", "optimizer.moment1", "optimizer.moment2"].map {
        PlacedTensor(name: $0, scalarType: .f32, shape: [vocabulary, vocabulary], layout: byRows)
    } + [PlacedTensor(name: "data.order", scalarType: .i32, shape: [pairCount], layout: .replicated(on: mesh))]
}

// MARK: - Training

/// What each rank does.
func train(_ ranks: any Communicator, folder: String, until end: Int) throws {
    let placed = try placedTensors(on: DeviceMesh(["tp": ranks.size]))
    let empty = try ShardedState(rank: ranks.rank, rankCount: ranks.size, tensors: placed)  // checks that the rows divide
    let rowCount = vocabulary / ranks.size
    let rows = ranks.rank * rowCount..<(ranks.rank + 1) * rowCount  // of the table, on this rank
    let elements = rows.lowerBound * vocabulary..<rows.upperBound * vocabulary

    // Resume: from nothing, or from the newest checkpoint of which every rank can read its part.
    let store = try ShardedStore(CheckpointStore(path: folder), over: ranks)
    var progress = Progress()
    var table, moment1, moment2: Tensor  // f32, [rowCount, vocabulary]
    var order: Tensor  // i32, [pairCount]: in which order this epoch takes the samples
    switch try store.resume(placed) {
    case .nothingYet:
        // Every rank draws the whole table and keeps its rows, so that they are the same on any number of ranks.
        let whole = (0..<vocabulary * vocabulary).map { _ in Float.random(in: -0.1...0.1, using: &progress.generator) }
        table = try Tensor(Array(whole[elements]), shape: [rowCount, vocabulary])
        moment1 = try Tensor(zeros: .f32, [rowCount, vocabulary])
        moment2 = try Tensor(zeros: .f32, [rowCount, vocabulary])
        order = Tensor((0..<Int32(pairCount)).shuffled(using: &progress.generator))
    case .resumed(let part):
        func local(_ name: String) throws -> Tensor {
            guard let tensor = part.state.local(name) else { throw CairnError(.notFound, "this rank has no part of \(name)") }
            return tensor
        }
        (table, order) = (try local("model.table"), try local("data.order"))
        (moment1, moment2) = (try local("optimizer.moment1"), try local("optimizer.moment2"))
        progress = try part.state.decode(Progress.self, for: "progress")
        if ranks.rank == 0 {
            for skipped in part.skipped { print("skipped step \(skipped.step): \(skipped.error)") }
            print("resumed from step \(progress.step)")
        }
    case .nothingUsable(let error, _):
        throw error  // there are checkpoints, and none can be read: a person should look at them
    }

    let pool = BufferPool(idleLimit: 64 << 20)  // memory for updates of tensors that a snapshot still reads
    var options = SnapshotOptions()
    options.retention = RetentionPolicy(keepLast: 5)
    let pipeline = SnapshotPipeline(store, pool: pool, options: options)

    while progress.step < end {
        // The next batch. A new epoch has a new order.
        if progress.position + batchSize > pairCount {
            order = Tensor(try order.elements(as: Int32.self).shuffled(using: &progress.generator))
            progress.position = 0
        }
        let batch = try order.elements(as: Int32.self)[progress.position...].prefix(batchSize).map(Int.init)
        progress.position += batchSize
        progress.step += 1

        // The gradient of this rank's rows. A sample is computed by the rank that holds the row of its first character.
        let weights = try table.elements(as: Float.self)
        var gradient = [Float](repeating: 0, count: weights.count)
        var losses = [Float](repeating: 0, count: batchSize)
        for (sample, pair) in batch.enumerated() where rows.contains(Int(text[pair])) {
            let start = (Int(text[pair]) - rows.lowerBound) * vocabulary
            let (loss, probabilities) = predict(weights[start..<start + vocabulary], next: text[pair + 1])
            losses[sample] = loss
            for column in 0..<vocabulary { gradient[start + column] += probabilities[column] / Float(batchSize) }
            gradient[start + Int(text[pair + 1])] -= 1 / Float(batchSize)
        }
        try ranks.allReduceSum(&losses)  // each loss plus zeros of the other ranks: exact
        let loss = losses.reduce(0, +) / Float(batchSize)

        // Adam. `rewrite` goes in place, or into memory of the pool where a snapshot still reads the old elements.
        moment1.rewrite(as: Float.self, pool: pool) { old, new in
            for i in new.indices { new[i] = beta1 * old[i] + (1 - beta1) * gradient[i] }
        }
        moment2.rewrite(as: Float.self, pool: pool) { old, new in
            for i in new.indices { new[i] = beta2 * old[i] + (1 - beta2) * gradient[i] * gradient[i] }
        }
        let (mean, square) = (try moment1.elements(as: Float.self), try moment2.elements(as: Float.self))
        let (scale1, scale2) = (1 - pow(beta1, Float(progress.step)), 1 - pow(beta2, Float(progress.step)))
        table.rewrite(as: Float.self, pool: pool) { old, new in
            for i in new.indices {
                new[i] = old[i] - learningRate * mean[i] / scale1 / ((square[i] / scale2).squareRoot() + 1e-8)
            }
        }

        // The snapshot. The call takes microseconds; the checkpoint becomes durable while the next steps run.
        if progress.step % saveEvery == 0 || progress.step == end {
            var state = empty  // copies no bytes, and is gone when the snapshot has it
            try state.set(table, for: "model.table")
            try state.set(moment1, for: "optimizer.moment1")
            try state.set(moment2, for: "optimizer.moment2")
            try state.set(order, for: "data.order")
            try state.set(encoding: progress, for: "progress")
            pipeline.snapshot(state, step: progress.step, options: SaveOptions(metrics: ["loss": Double(loss)]))
        }
        for report in pipeline.takeReports() where ranks.rank == 0 { print("step \(report.step) is \(report.outcome)") }
    }
    try pipeline.finish()  // throws if the last snapshot did not become a checkpoint
    for report in pipeline.takeReports() where ranks.rank == 0 { print("step \(report.step) is \(report.outcome)") }

    // The result: the loss over all samples, and a digest of the table's bits.
    var whole = [Float](repeating: 0, count: vocabulary * vocabulary)
    whole.replaceSubrange(elements, with: try table.elements(as: Float.self))
    try ranks.allGather(&whole, counts: Array(repeating: elements.count, count: ranks.size))
    guard ranks.rank == 0 else { return }
    let loss = (0..<pairCount).reduce(0 as Float) { sum, pair in
        sum + predict(whole[Int(text[pair]) * vocabulary..<(Int(text[pair]) + 1) * vocabulary], next: text[pair + 1]).loss
    }
    let digest = whole.reduce(0xCBF2_9CE4_8422_2325 as UInt64) { ($0 ^ UInt64($1.bitPattern)) &* 0x100_0000_01B3 }
    print("step \(progress.step), loss \(loss / Float(pairCount)), digest \(String(digest, radix: 16))")
}

/// The loss of a row of the table if `next` follows, and how likely the row makes each character.
func predict(_ row: ArraySlice<Float>, next: UInt8) -> (loss: Float, probabilities: [Float]) {
    let largest = row.max() ?? 0
    let weights = row.map { exp($0 - largest) }
    let total = weights.reduce(0, +)
    return (log(total) + largest - row[row.startIndex + Int(next)], weights.map { $0 / total })
}

// MARK: - The program

let arguments = CommandLine.arguments
guard arguments.count == 4, let steps = Int(arguments[2]), let rankCount = Int(arguments[3]) else {
    print("usage: \(arguments[0]) FOLDER STEPS RANKS")
    exit(64)
}
let folder = arguments[1]
do {
    try ThreadCommunicator.run(ranks: rankCount) { try train($0, folder: folder, until: steps) }
} catch {
    print("error: \(error)")
    exit(1)
}
