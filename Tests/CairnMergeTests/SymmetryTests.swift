import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnMerge
import CairnTensor
import CairnTesting
import Testing

@Suite struct Symmetries {
    /// A network of fully connected layers with ReLU between, evaluated naively.
    struct Network {
        static let widths = [5, 17, 12, 3]
        static let weights = (0..<3).map { "layers.\($0).weight" }
        static let biases = (0..<3).map { "layers.\($0).bias" }
        static let spec = PermutationSpec.perceptron(weights: weights, biases: biases)

        static func random(seed: UInt64, type: ScalarType = .f32) throws -> MemoryCheckpoint {
            var random = RandomTensors(seed: seed)
            var network = MemoryCheckpoint("network \(seed)", isMapped: true)
            for layer in 0..<3 {
                network.add(weights[layer], try random.tensor([widths[layer + 1], widths[layer]], type))
                network.add(biases[layer], try random.tensor([widths[layer + 1]], type))
                network.add("moment." + weights[layer], try random.tensor([widths[layer + 1], widths[layer]], type))
            }
            return network
        }

        static func outputs(_ reader: any CheckpointReader) throws -> [Double] {
            var random = RandomTensors(seed: 99)
            var results: [Double] = []
            for _ in 0..<10 {
                var values = random.floats(widths[0]).map { Double($0) }
                for layer in 0..<3 {
                    let weight = try reader.doubles(weights[layer]), bias = try reader.doubles(biases[layer])
                    values = bias.indices.map { row in
                        let sum = values.indices.reduce(bias[row]) { $0 + weight[row * values.count + $1] * values[$1] }
                        return layer < 2 ? max(0, sum) : sum
                    }
                }
                results += values
            }
            return results
        }
    }

    @Test(arguments: [1, 2, 7, 40, 131]) func assignmentsAreTheBestOfAll(count: Int) throws {
        let seed = UInt64(count)
        var generator = SeededGenerator(seed: seed)
        for round in 0..<3 {
            // Integers, so that many assignments are equally good.
            let gains = (0..<count * count).map { _ in
                round == 0 ? Double.random(in: -1...1, using: &generator) : Double(Int.random(in: 0...5, using: &generator))
            }
            let best = try LinearAssignment.maximizing(gains, count: count)
            #expect(best.sorted() == Array(0..<count))
            let sum = best.enumerated().reduce(0) { $0 + gains[$1.offset * count + $1.element] }
            #expect(abs(sum - Self.hungarian(gains, count)) < 1e-9 * Double(count), "seed \(seed), round \(round)")
        }
    }

    @Test func weightsThatAreNoNumbersAreNotMatched() throws {
        let network = try Network.random(seed: 60)
        var broken = MemoryCheckpoint("broken", isMapped: true)
        for tensor in network.tensors {
            var elements = try network.tensor(tensor.name).elements(as: Float.self)
            if tensor.name == Network.weights[1] { elements[3] = .nan }
            broken.add(tensor.name, try Tensor(elements, tensor.shape))
        }
        for pair in [(broken, network), (network, broken), (broken, broken)] {
            var generator = SeededGenerator(seed: 1)
            let error = try #require(throws: CairnError.self) {
                try WeightMatching(Network.spec).match(pair.0, to: pair.1, using: &generator)
            }
            #expect(error.code == .invalidArgument && error.context.tensor?.hasPrefix("hidden.") == true, "\(error)")
        }
    }

    /// Tensors without elements may say that they have any number of rows.
    @Test(arguments: [1 << 40, 300_000]) func moreUnitsThanThereIsMemoryForAreRefused(count: Int) throws {
        var network = MemoryCheckpoint(isMapped: true)
        network.add("layers.0.weight", try Tensor(zeros: .f32, [count, 0]))
        network.add("layers.1.weight", try Tensor(zeros: .f32, [0, count]))
        let spec = PermutationSpec.perceptron(weights: ["layers.0.weight", "layers.1.weight"], biases: [nil, nil])
        var generator = SeededGenerator(seed: 1)
        let error = try #require(throws: CairnError.self) {
            try WeightMatching(spec).match(network, to: network, using: &generator)
        }
        #expect(error.code == .noSpace, "\(error)")
    }

    /// The greatest sum by the algorithm of Kuhn and Munkres with potentials, one row at a time.
    private static func hungarian(_ gains: [Double], _ n: Int) -> Double {
        var u = [Double](repeating: 0, count: n + 1), v = u
        var p = [Int](repeating: 0, count: n + 1), way = p
        for i in 1...n {
            p[0] = i
            var j0 = 0
            var least = [Double](repeating: .infinity, count: n + 1)
            var used = [Bool](repeating: false, count: n + 1)
            repeat {
                used[j0] = true
                let i0 = p[j0]
                var delta = Double.infinity, j1 = 0
                for j in 1...n where !used[j] {
                    let current = -gains[(i0 - 1) * n + j - 1] - u[i0] - v[j]
                    if current < least[j] { (least[j], way[j]) = (current, j0) }
                    if least[j] < delta { (delta, j1) = (least[j], j) }
                }
                for j in 0...n {
                    if used[j] {
                        u[p[j]] += delta
                        v[j] -= delta
                    } else {
                        least[j] -= delta
                    }
                }
                j0 = j1
            } while p[j0] != 0
            repeat {
                let j1 = way[j0]
                p[j0] = p[j1]
                j0 = j1
            } while j0 != 0
        }
        return v[0]
    }

    @Test(arguments: [ScalarType.f32, .bf16]) func aPermutedNetworkComputesTheSame(type: ScalarType) throws {
        let network = try Network.random(seed: 1, type: type)
        var generator = SeededGenerator(seed: 2)
        let deviations = try Network.spec.check(network, generator: &generator, evaluating: Network.outputs)
        #expect(deviations.isEmpty, "\(deviations)")
        #expect(try PermutationSpec.perceptron(of: SelectedReader(network, include: ["layers.*"])) == Network.spec)
    }

    @Test func aWrongSpecificationIsFoundOutByItsLabel() throws {
        let network = try Network.random(seed: 3)
        var spec = Network.spec
        spec.axes[Network.biases[1]] = nil
        var generator = SeededGenerator(seed: 4)
        let deviations = try spec.check(network, generator: &generator, evaluating: Network.outputs)
        #expect(Set(deviations.map(\.label)) == ["hidden.1", nil])
    }

    @Test func plantedPermutationsAreRecoveredExactly() throws {
        for seed in 10..<13 as Range<UInt64> {
            let network = try Network.random(seed: seed)
            var generator = SeededGenerator(seed: seed)
            let planted = try UnitPermutations(randomFor: Network.spec, in: network, using: &generator)
            let shuffled = try PermutedReader(network, planted, by: Network.spec)
            let found = try WeightMatching(Network.spec).match(shuffled, to: network, using: &generator)
            #expect(found.isSettled)
            #expect(found.permutations == planted.inverse, "seed \(seed)")
            #expect(zip(found.similarities, found.similarities.dropFirst()).allSatisfy { $0 <= $1 + 1e-6 })
            // Every region of what is put back, optimizer moments with it, is the original.
            var both = Network.spec
            both.merge(Network.spec.renamed { "moment." + $0 }.restricted(to: network))
            let moved = try PermutedReader(network, planted, by: both)
            let back = try PermutedReader(moved, found.permutations, by: both)
            for tensor in network.tensors { #expect(try back.tensor(tensor.name) == network.tensor(tensor.name)) }
            let region = try Region(offsets: [3, 2], shape: [5, 9])
            let part = try Tensor(.f32, region.shape) { destination in
                try back.read(Network.weights[1], region: region, into: &destination)
            }
            let whole = try network.floats(Network.weights[1])
            #expect(
                try part.elements(as: Float.self) == (3..<8).flatMap { row in (2..<11).map { whole[row * 17 + $0] } })
        }
    }

    @Test func activationsFindPlantedPermutations() throws {
        var random = RandomTensors(seed: 20)
        let activations = try random.tensor([50, 30])
        let values = try activations.elements(as: Float.self)
        let order = Array(0..<30).shuffled(using: &random.generator)
        // Scaled and moved as well: correlations do not mind.
        let other = (0..<50).flatMap { row in order.map { values[row * 30 + $0] * 3 + 1 } }
        let found = try ActivationMatching.match(["h": Tensor(other, [50, 30])], to: ["h": activations])
        #expect(found == UnitPermutations(["h": order]).inverse)
    }

    @Test func headsGroupsAndExpertsMoveAsBlocks() throws {
        var random = RandomTensors(seed: 30)
        var model = MemoryCheckpoint("model", isMapped: true)
        // Two heads of keys for four heads of width 3; a residual stream of 8; hidden 10; three experts.
        for (name, shape) in [
            ("model.embed_tokens.weight", [11, 8]), ("model.layers.0.self_attn.q_proj.weight", [12, 8]),
            ("model.layers.0.self_attn.k_proj.weight", [6, 8]), ("model.layers.0.self_attn.v_proj.weight", [6, 8]),
            ("model.layers.0.self_attn.o_proj.weight", [8, 12]), ("model.layers.0.mlp.gate_proj.weight", [10, 8]),
            ("model.layers.0.mlp.up_proj.weight", [10, 8]), ("model.layers.0.mlp.down_proj.weight", [8, 10]),
            ("model.layers.0.input_layernorm.weight", [8]), ("model.norm.weight", [8]), ("lm_head.weight", [11, 8]),
        ] as [(String, Shape)] { model.add(name, try random.tensor(shape)) }
        let spec = try PermutationSpec.llama(of: model, headCount: 4, keyHeadCount: 2)
        #expect(try spec.unitCounts(in: model) == ["block.0.heads": 2, "block.0.hidden": 10, "residual": 8])
        func attention(_ reader: any CheckpointReader) throws -> [Double] {
            let weights = try ["q", "k", "v", "o"].map { try reader.doubles("model.layers.0.self_attn.\($0)_proj.weight") }
            let embedding = try reader.doubles("model.embed_tokens.weight"), head = try reader.doubles("lm_head.weight")
            let gate = try reader.doubles("model.layers.0.mlp.gate_proj.weight")
            let up = try reader.doubles("model.layers.0.mlp.up_proj.weight")
            let down = try reader.doubles("model.layers.0.mlp.down_proj.weight")
            let norm = try reader.doubles("model.norm.weight")
            var outputs: [Double] = []
            for token in 0..<11 {
                let x = Array(embedding[token * 8..<token * 8 + 8])
                func product(_ m: [Double], _ v: [Double]) -> [Double] {
                    (0..<m.count / v.count).map { r in v.indices.reduce(0) { $0 + m[r * v.count + $1] * v[$1] } }
                }
                let (q, k, v) = (product(weights[0], x), product(weights[1], x), product(weights[2], x))
                // Something that mixes each head of queries with its own keys and values.
                var heads: [Double] = []
                for h in 0..<4 {
                    let score = (0..<3).reduce(0.0) { $0 + q[h * 3 + $1] * k[h / 2 * 3 + $1] }
                    heads += (0..<3).map { score * v[h / 2 * 3 + $0] }
                }
                var y = product(weights[3], heads)
                let hidden = zip(product(gate, x), product(up, x)).map { max(0, $0) * $1 }
                for (i, value) in product(down, hidden).enumerated() { y[i] = (y[i] + value) * norm[i] }
                outputs += product(head, y)
            }
            return outputs
        }
        var generator = SeededGenerator(seed: 31)
        #expect(try spec.check(model, generator: &generator, evaluating: attention).isEmpty)

        var experts = MemoryCheckpoint("experts", isMapped: true)
        for expert in 0..<3 { experts.add("experts.\(expert).w", try random.tensor([4, 2])) }
        experts.add("router", try random.tensor([3, 2]))
        let stacked = PermutationSpec(
            axes: ["router": [.init("e"), nil]], stacks: ["e": [(0..<3).map { "experts.\($0).w" }]])
        let moved = try PermutedReader(experts, UnitPermutations(["e": [2, 0, 1]]), by: stacked)
        #expect(try moved.tensor("experts.0.w") == experts.tensor("experts.2.w"))
        let router = try experts.floats("router")
        #expect(try moved.floats("router") == Array(router[4...] + router[..<4]))
        let found = try WeightMatching(stacked).match(moved, to: experts, using: &generator)
        #expect(found.permutations == UnitPermutations(["e": [2, 0, 1]]).inverse)
    }

    @Test func whatDoesNotFitIsRefused() throws {
        let network = try Network.random(seed: 40)
        #expect(throws: CairnError.self) {
            try PermutedReader(network, UnitPermutations(["hidden.0": [0, 0]]), by: Network.spec)
        }
        var wrong = Network.spec
        wrong.axes[Network.weights[0]] = [.init("hidden.1"), nil]
        #expect(throws: CairnError.self) { try wrong.unitCounts(in: network) }
        let both = PermutationSpec(axes: [Network.weights[0]: [.init("x"), .init("x")]])
        #expect(throws: CairnError.self) { try WeightMatching(both) }
        let value = UnitPermutations(["a": [1, 0]]).value
        #expect(try UnitPermutations(value).orders == ["a": [1, 0]])
        #expect(throws: CairnError.self) { try UnitPermutations(.dictionary(["a": [1, 1]])) }
    }

    @Test func balancedScalesAreTheSameForEveryScaledCopy() throws {
        let network = try Network.random(seed: 50, type: .f64)
        let spec = ScalingSpec(Network.spec, labels: ["hidden.0", "hidden.1"])
        var generator = SeededGenerator(seed: 51)
        var scales: [String: [Double]] = [:]
        for (label, count) in [("hidden.0", 17), ("hidden.1", 12)] {
            scales[label] = (0..<count).map { _ in Double.random(in: 0.1...8, using: &generator) }
        }
        let scaled = try ScaledReader(network, scales: scales, by: spec)
        let expected = try Network.outputs(network)
        for (one, other) in zip(try Network.outputs(scaled), expected) { #expect(abs(one - other) < 1e-9 * 1e3) }
        let balanced = try ([network, scaled] as [any CheckpointReader]).map { reader in
            try ScaledReader(reader, scales: spec.balance(reader), by: spec)
        }
        for name in Network.weights + Network.biases {
            for (one, other) in zip(try balanced[0].doubles(name), try balanced[1].doubles(name)) {
                #expect(abs(one - other) < 1e-7 * max(1, abs(one)))
            }
        }
        for (one, other) in zip(try Network.outputs(balanced[1]), expected) { #expect(abs(one - other) < 1e-6) }
    }
}

extension PermutationSpec {
    /// The part that a checkpoint has tensors for.
    fileprivate func restricted(to reader: any CheckpointReader) -> PermutationSpec {
        let names = Set(reader.tensors.map(\.name))
        return PermutationSpec(axes: axes.filter { names.contains($0.key) })
    }
}
