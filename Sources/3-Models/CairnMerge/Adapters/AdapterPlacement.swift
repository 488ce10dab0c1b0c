import CairnBase
import CairnCheckpoint
import CairnTensor

/// Which weight of the model each pair of matrices is for, how it lies beside it, and what it is multiplied by.
struct AdapterPlacement {
    /// A pair of matrices and its weight.
    struct Product {
        let module: AdapterTensors.Module
        let weight: String
        let update: LowRankUpdate
    }

    private(set) var products: [Product] = []

    private let plan: AdapterPlan
    private let ranks: ModuleNumbers
    private let alphas: ModuleNumbers
    private let storage: WeightStorage
    private let flatNames: FlatModuleNames

    /// - Throws: ``CairnError``, naming the tensor of the adapter.
    init(_ tensors: AdapterTensors, _ plan: AdapterPlan) throws(CairnError) {
        self.plan = plan
        ranks = try ModuleNumbers(plan.configuration.rankOfModules)
        alphas = try ModuleNumbers(plan.configuration.alphaOfModules)
        let pairs = tensors.modules.filter { $0.down != nil && $0.up != nil }
        storage = WeightStorage(plan, pairs)
        flatNames = FlatModuleNames(pairs.contains(where: \.isOfImageTrainers) ? plan.model : nil)
        // Several parameters of one module are wrapped one around the other.
        var wrapped: [(name: String, pairs: [AdapterTensors.Module])] = []
        var positions: [ExactString: Int] = [:]
        for pair in pairs {
            var name = pair.name
            while name.hasSuffix(".base_layer") { name.removeLast(".base_layer".count) }
            if let position = positions[ExactString(name)] {
                wrapped[position].pairs.append(pair)
            } else {
                positions[ExactString(name)] = wrapped.count
                wrapped.append((name, [pair]))
            }
        }
        for (name, pairs) in wrapped {
            let parameters = parameters(of: name)
            if parameters.isEmpty {
                for pair in pairs { products.append(try product(pair)) }
            } else {
                products += try products(pairs, of: parameters)
            }
        }
    }

    // MARK: Weights of modules

    private func product(_ pair: AdapterTensors.Module) throws(CairnError) -> Product {
        guard !pair.name.hasSuffix(".base_layer") else {
            throw plan.failure(
                .unsupported, "a matrix is for a module within another adapter's", pair.first,
                advice: "target_parameters does not say which parameter it is for")
        }
        let module = pair.isOfImageTrainers ? try flatNames.module(of: pair, plan) : pair.name
        guard pair.isOfImageTrainers || plan.targets.contains(module) else {
            throw plan.failure(
                .mismatch, "the adapter has matrices of a module that its configuration leaves out", pair.first,
                expected: "\(module) in target_modules and not excluded",
                advice: "PEFT would pass them over; take them out if that is right")
        }
        let weight = module + ".weight"
        guard let found = plan.tensor(weight) else { throw plan.lacking(weight, pair.first) }
        let (shape, rank) = try shape(pair, found)
        let scale = try scale(pair, pattern: module, rank: rank)
        let isTransposed = try storage.isTransposed(pair, shape, found)
        return Product(
            module: pair, weight: weight, update: update(pair, scale, isTransposed: isTransposed))
    }

    private func update(
        _ pair: AdapterTensors.Module, _ scale: Double, isTransposed: Bool, stackCount: Int = 1,
        isParameter: Bool = false
    ) -> LowRankUpdate {
        LowRankUpdate(
            down: plan.operand(pair.down ?? ""), up: plan.operand(pair.up ?? ""), scale: scale,
            isTransposed: isTransposed, stackCount: stackCount, magnitude: pair.magnitude.map { plan.operand($0) },
            roundsProduct: pair.magnitude == nil
                && (pair.isEmbedding || isParameter || plan.configuration.roundsProducts))
    }

    private func shape(
        _ pair: AdapterTensors.Module, _ weight: TensorDescription, stackCount: Int = 1
    ) throws(CairnError) -> (LowRankShape, rank: Int) {
        let down = try plan.reader.description(of: pair.down ?? ""), up = try plan.reader.description(of: pair.up ?? "")
        let shape = LowRankShape(weight: weight.shape, down: down.shape, up: up.shape, stackCount: stackCount)
        guard let rank = shape.rank else {
            throw plan.failure(
                .mismatch, "the two matrices of an update do not belong to each other", down.name,
                expected: "[rank, inputs] and [outputs, rank]", found: "\(down.shape) and \(up.name) \(up.shape)")
        }
        for matrix in [down, up] where !matrix.scalarType.hasAverage {
            throw plan.failure(
                .unsupported, "a matrix of an update has elements that are not floating-point numbers", matrix.name,
                found: "\(matrix.scalarType)")
        }
        return (shape, rank)
    }

    private func scale(_ pair: AdapterTensors.Module, pattern: String, rank: Int) throws(CairnError) -> Double {
        let configuration = plan.configuration
        let expected = ranks.number(of: pattern) ?? configuration.rank.map(Double.init)
        if let expected, expected != Double(rank) {
            throw plan.failure(
                .mismatch, "the matrices of a module have another rank than the configuration says", pair.first,
                expected: "\(Int(expected))", found: "\(rank)", advice: "check r and rank_pattern")
        }
        var alpha = alphas.number(of: pattern) ?? configuration.alpha
        if let name = pair.alpha {
            let own = try number(name)
            if let alpha, alpha != own {
                throw plan.failure(
                    .mismatch, "a module's scale is another than the configuration says", name, expected: "\(alpha)",
                    found: "\(own)")
            }
            alpha = own
        }
        guard let alpha else {
            throw plan.failure(
                .incomplete, "nothing says what the product of two matrices is multiplied by", pair.first,
                expected: "\(pair.name).alpha, or lora_alpha in adapter_config.json")
        }
        return alpha / (configuration.isRankStabilized ? Double(rank).squareRoot() : Double(rank))
    }

    private func number(_ name: String) throws(CairnError) -> Double {
        let description = try plan.reader.description(of: name)
        do {
            let numbers = try plan.reader.tensor(name).converted(to: .f64).elements(as: Double.self)
            if numbers.count == 1, numbers[0].isFinite { return numbers[0] }
        } catch {
            throw CairnError(wrapping: error, "a module's scale cannot be read").adding(.init(tensor: name))
        }
        throw plan.failure(
            .malformed, "a module's scale is not a number", name, expected: "one number", found: "\(description.shape)")
    }

    // MARK: Parameters

    /// The parameters of a module that `target_parameters` names.
    private func parameters(of module: String) -> [TensorDescription] {
        var names: Set<String> = []
        var found: [TensorDescription] = []
        for target in plan.configuration.targetParameters {
            guard let last = target.split(separator: ".").last else { continue }
            let name = module + "." + last
            guard name == target || name.hasSuffix("." + target), names.insert(name).inserted else { continue }
            if let tensor = plan.tensor(name) { found.append(tensor) }
        }
        return found
    }

    private func products(
        _ pairs: [AdapterTensors.Module], of parameters: [TensorDescription]
    ) throws(CairnError) -> [Product] {
        let orders = Self.orders(of: parameters.count)
        guard pairs.count == parameters.count, !orders.isEmpty else {
            throw plan.failure(
                .mismatch, "a module has another number of updates than target_parameters names", pairs[0].first,
                expected: "\(parameters.count)", found: "\(pairs.count)")
        }
        var fitting: [[Bool]] = []
        var chosen: [Int] = []
        for order in orders {
            guard let ways = try ways(pairs, order.map { parameters[$0] }) else { continue }
            fitting += ways
            chosen = order
        }
        guard let ways = fitting.first else {
            throw plan.failure(
                .mismatch, "matrices do not fit the parameters that they are for", pairs[0].first,
                expected: parameters.map { "\($0.name) \($0.shape)" }.joined(separator: " or "))
        }
        guard fitting.count == 1 else {
            throw plan.failure(
                .unsupported, "the shapes do not say how matrices lie beside the parameters that they are for",
                pairs[0].first, found: parameters.map { "\($0.name) \($0.shape)" }.joined(separator: ", "),
                advice: "merge it with PEFT")
        }
        var products: [Product] = []
        for (index, pair) in pairs.enumerated() {
            let parameter = parameters[chosen[index]]
            let (_, rank) = try shape(pair, parameter, stackCount: stackCount(parameter))
            guard !pair.isOfImageTrainers, pair.magnitude == nil, pair.upBias == nil else {
                throw plan.failure(.unsupported, "an update of a parameter is more than a product", pair.first)
            }
            let scale = try scale(pair, pattern: parameter.name, rank: rank)
            products.append(
                Product(
                    module: pair, weight: parameter.name,
                    update: update(
                        pair, scale, isTransposed: ways[index], stackCount: stackCount(parameter), isParameter: true)))
        }
        return products
    }

    private func stackCount(_ parameter: TensorDescription) -> Int {
        parameter.shape.dimensionCount == 3 ? parameter.shape[0] : 1
    }

    /// How each pair can lie beside its parameter; `nil` if one cannot. Experts of one module are all stored alike.
    private func ways(_ pairs: [AdapterTensors.Module], _ parameters: [TensorDescription]) throws(CairnError) -> [[Bool]]? {
        var stacked: Set<Bool> = [false, true]
        var shapes: [LowRankShape] = []
        for (pair, parameter) in zip(pairs, parameters) {
            let down = try plan.reader.description(of: pair.down ?? ""), up = try plan.reader.description(of: pair.up ?? "")
            let shape = LowRankShape(
                weight: parameter.shape, down: down.shape, up: up.shape, stackCount: stackCount(parameter))
            shapes.append(shape)
            if parameter.shape.dimensionCount == 3 {
                stacked = stacked.filter { shape.fits(isTransposed: $0) }
            } else if parameter.shape.dimensionCount != 2 || !shape.fits(isTransposed: false) {
                return nil
            }
        }
        let hasStack = parameters.contains { $0.shape.dimensionCount == 3 }
        let ways = (hasStack ? stacked.sorted { !$0 && $1 } : [false]).map { way in
            parameters.map { $0.shape.dimensionCount == 3 && way }
        }
        return ways.isEmpty ? nil : ways
    }

    /// All orders of a few things.
    private static func orders(of count: Int) -> [[Int]] {
        guard count <= 6 else { return [] }
        return (0..<count).reduce([[]]) { orders, new in
            orders.flatMap { order in (0...order.count).map { place in Array(order[..<place]) + [new] + order[place...] } }
        }
    }
}
