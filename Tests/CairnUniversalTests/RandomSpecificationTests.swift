import CairnBase
import CairnCheckpoint
import CairnCheckpointTesting
import CairnLayout
import CairnTensor
import CairnTesting
import CairnUniversal
import Testing

/// Random rules, random meshes: what is sharded comes back.
@Suite struct RandomSpecificationTests {
    /// A specification and a foreign checkpoint of one rank that it fits.
    private struct Case {
        var spec = UniversalSpec(axes: ["pp", "dp", "tp"], parameters: [.init("layers", 4)])
        var foreign = MemoryCheckpoint()
        var generator: SeededGenerator

        init(seed: UInt64) throws {
            generator = SeededGenerator(seed: seed)
            for index in 0..<Int.random(in: 1...6, using: &generator) { try addRule(index) }
            if Bool.random(using: &generator) {
                spec.moments = [Moment("m", from: "opt/{fqn}", to: "{fqn}.moment")]
                for tensor in foreign.tensors {
                    foreign.add("opt/" + tensor.name, try foreign.tensor(tensor.name))
                }
            }
            foreign.values = [NamedValue(name: "step", value: 3)]
            try spec.validate()
        }

        /// Extents that divide by whatever the meshes and units below ask for.
        private mutating func extent() -> Int { 12 * Int.random(in: 1...2, using: &generator) }

        private mutating func addRule(_ index: Int) throws {
            let kind = Int.random(in: 0..<8, using: &generator)
            var shape = [extent(), extent()]
            if kind < 6, Int.random(in: 0..<3, using: &generator) == 0 { shape.append(5) }
            let isLayered = Bool.random(using: &generator)
            let foreignLayer = isLayered ? ".{n:0..<layers/pp.size}" : ""
            let layer = isLayered ? ".{n + pp*layers/pp.size}" : ""
            var rule = Rule("rule \(index)", from: "f\(index)\(foreignLayer).w", to: "g\(index)\(layer).w")
            switch kind {
            case 0:
                rule.to = ["g\(index)\(layer).a", "g\(index)\(layer).b", "g\(index)\(layer).c"]
                rule.transforms = [.split(dimension: 1, sizes: [1, 2, 3], groups: IntegerExpression("\(shape[1])/6"))]
            case 1:
                rule.from = ["f\(index)\(foreignLayer).a", "f\(index)\(foreignLayer).b"]
                rule.transforms = [.fuse(dimension: 0, groups: 3)]
            case 2 where isLayered:
                rule.to = ["g\(index).w"]
                rule.transforms = [
                    .stack(axis: 1, slot: "n + pp*layers/pp.size"), .permute([1, 0] + Array(2...shape.count)),
                ]
            case 3:
                rule.to = ["g\(index)\(layer).{slot}.w"]
                rule.transforms = [.unstack(axis: 1, slot: "slot")]
            case 4: rule.transforms = [.permute(Array(shape.indices.reversed()))]
            case 5: rule.transforms = [.cast(from: .bf16, to: .f32), .permute(Array(shape.indices.reversed()))]
            case 6:
                rule.transforms = [
                    .strip(dimension: 0, extent: IntegerExpression("\(shape[0] - 5)"), multiple: 12),
                    .pad(dimension: 1, extent: IntegerExpression("\(shape[1])"), multiple: 7), .transpose,
                ]
            default: break
            }
            rule.placement = placement(shape)
            let isFlattened = rule.placement.contains { if case .flatten = $0.placement { true } else { false } }
            if isFlattened {
                rule.shape = shape.map { IntegerExpression("\($0)") }
            }
            if !isLayered, Bool.random(using: &generator) { rule.placement.append(On("pp", .present(on: [0]))) }
            for layer in isLayered ? Array(0..<4) : [-1] {
                for text in rule.from {
                    let name = text.split(separator: ".").map { $0.hasPrefix("{n:") ? "\(layer)" : String($0) }
                    // The range within the capture has dots of its own.
                    let joined = isLayered ? "f\(index).\(layer).\(name.last ?? "")" : name.joined(separator: ".")
                    try foreign.add(joined, kind == 5 ? .bf16 : .f32, Shape(shape), using: &generator)
                    if kind == 6 { try clearPadding(joined, below: shape[0] - 5) }
                    if isFlattened {
                        let flat = try foreign.tensor(joined).reshaped([shape.reduce(1, *)])
                        foreign.add(joined, flat)
                    }
                }
            }
            spec.rules.append(rule)
        }

        /// What is stripped comes back as zeros.
        private mutating func clearPadding(_ name: String, below row: Int) throws {
            var tensor = try foreign.tensor(name)
            let begin = row * (tensor.byteCount / tensor.shape[0])
            tensor.withMutableElements(as: Float.self) { for index in (begin / 4)..<$0.count { $0[index] = 0 } }
            foreign.add(name, tensor)
        }

        private mutating func placement(_ shape: [Int]) -> [On] {
            let dimension = Int.random(in: 0...1, using: &generator)
            let extent = shape[dimension]
            var steps: [On] = []
            switch Int.random(in: 0..<6, using: &generator) {
            case 0: break
            case 1: steps.append(On("tp", .shard(dimension)))
            case 2: steps.append(On("tp", .shard(dimension, .chunked, unit: 5)))
            case 3: steps.append(On("tp", .shard(dimension, .balanced, unit: "1 + 1")))
            case 4: steps.append(On("tp", .shard(dimension: dimension, sections: .equal(2))))
            default:
                let sizes: [IntegerExpression] = [6, IntegerExpression("\(extent)/2 - 6")]
                steps.append(
                    On("tp", .shard(dimension: dimension, division: .balanced, sections: .sizes(sizes), repeats: 2)))
            }
            switch Int.random(in: 0..<4, using: &generator) {
            case 0: steps.append(On("dp", .shard(1 - dimension, .chunked)))
            case 1: steps.append(On("dp", .flatten(.perTensor)))
            case 2: steps.insert(On("dp", .shard(1 - dimension, .balanced)), at: 0)
            default: break
            }
            return steps
        }
    }

    @Test(arguments: 0..<150 as Range<UInt64>) func whatIsShardedComesBack(seed: UInt64) throws {
        var test = try Case(seed: seed)
        let spec = test.spec
        #expect(try UniversalSpec(yaml: spec.yaml) == spec, "seed \(seed)")
        let ones = ["pp": 1, "dp": 1, "tp": 1]
        let logical = try MemoryCheckpoint(reading: GatheredReader([test.foreign], spec: spec, mesh: ones))
        let whole = try ShardedCheckpoint(logical, spec: spec, mesh: ones).shard(ofRank: 0)
        #expect(try difference(whole, test.foreign) == nil, "seed \(seed)")
        for _ in 0..<2 {
            let mesh = [
                "pp": [1, 2, 4].randomElement(using: &test.generator) ?? 1,
                "dp": Int.random(in: 1...3, using: &test.generator),
                "tp": Int.random(in: 1...3, using: &test.generator),
            ]
            let parts = try shards(ShardedCheckpoint(logical, spec: spec, mesh: mesh))
            let gathered = try GatheredReader(parts, spec: spec, mesh: mesh, verifiesReplicas: true)
            #expect(try difference(gathered, logical) == nil, "seed \(seed), mesh \(mesh)")
            for tensor in gathered.tensors {
                let region = try randomRegion(of: tensor.shape, using: &test.generator)
                let read = try Tensor(tensor.scalarType, region.shape) {
                    try gathered.read(tensor.name, region: region, into: &$0)
                }
                #expect(
                    try read == logical.tensor(tensor.name).copy(of: region), "seed \(seed), \(tensor.name) \(region)")
            }
            let explained = try spec.explain(parts, mesh: mesh)
            #expect(explained.problems.isEmpty && explained.oneWay.isEmpty, "seed \(seed)")
        }
    }

    @Test(arguments: 0..<30 as Range<UInt64>) func shardsAreReadByRegion(seed: UInt64) throws {
        var test = try Case(seed: seed)
        let logical = try GatheredReader([test.foreign], spec: test.spec, mesh: ["pp": 1, "dp": 1, "tp": 1])
        let sharded = try ShardedCheckpoint(logical, spec: test.spec, mesh: ["pp": 2, "dp": 3, "tp": 2])
        for rank in 0..<sharded.mesh.rankCount {
            let shard = try sharded.shard(ofRank: rank)
            let copy = try MemoryCheckpoint(reading: shard)
            for tensor in shard.tensors {
                let region = try randomRegion(of: tensor.shape, using: &test.generator)
                let read = try Tensor(tensor.scalarType, region.shape) {
                    try shard.read(tensor.name, region: region, into: &$0)
                }
                #expect(
                    try read == copy.tensor(tensor.name).copy(of: region), "seed \(seed), rank \(rank), \(tensor.name)")
            }
        }
    }

    private func randomRegion(of shape: Shape, using generator: inout SeededGenerator) throws -> Region {
        let offsets = shape.extents.map { Int.random(in: 0...$0, using: &generator) }
        let extents = zip(shape.extents, offsets).map { Int.random(in: 0...$0 - $1, using: &generator) }
        return try Region(offsets: offsets, shape: Shape(extents))
    }
}
