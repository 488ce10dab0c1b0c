import CairnBase
import CairnCheckpoint
import CairnMerge
import CairnTensor
import Testing

@Suite struct LearnedSoups {
    private static let target = [[0.6, 0.1, 0, 0.3], [0, 0.5, 0.4, 0.1]]

    @Test func coefficientsAreFound() throws {
        let inputs = try Searches.inputs()
        var settings = LearnedSoup.Settings()
        settings.evaluationLimit = 1500
        let same = [Self.target[0], Self.target[0]]
        let soup = try LearnedSoup(of: inputs, settings: settings) { try Searches.distance($0, same) }
        #expect(soup.groups == ["*"] && soup.evaluationCount <= 1500 + 10)
        for (found, expected) in zip(soup.coefficients[0], same[0]) { #expect(abs(found - expected) < 1e-2) }
        #expect(soup.coefficients[0].allSatisfy { $0 > 0 })
        #expect(abs(soup.coefficients[0].reduce(0, +) - 1) < 1e-12)
        #expect(try soup.value == Searches.distance(soup.merged, same))
        #expect(soup.merged.lineage.operation == "learned soup")
        #expect(soup.merged.lineage.parents.map(\.coefficient) == soup.coefficients[0])
    }

    @Test func layersLearnTheirOwn() throws {
        let inputs = try Searches.inputs()
        var settings = LearnedSoup.Settings()
        settings.evaluationLimit = 3000
        let whole = try LearnedSoup(of: inputs, settings: settings) { try Searches.distance($0, Self.target) }
        settings.grouping = .layers
        settings.start = whole.coefficients[0]
        let layers = try LearnedSoup(of: inputs, settings: settings) { try Searches.distance($0, Self.target) }
        #expect(layers.groups == ["layers.0", "layers.1"])
        #expect(layers.value < 0.05 * whole.value, "\(layers.value) \(whole.value)")
        guard case .dictionary(let kept) = layers.merged.lineage.details["coefficients"] else {
            Issue.record("the lineage does not say how it was made")
            return
        }
        #expect(kept["layers.1"] == .list(layers.coefficients[1].map { .double($0) }))
    }

    /// Equal seeds, equal soups; more is better where that is said; what is not a number is worse than any.
    @Test func aSoupCanBeLearnedAgain() throws {
        let inputs = try Searches.inputs()
        var settings = LearnedSoup.Settings()
        settings.seed = 7
        settings.evaluationLimit = 60
        let same = [Self.target[0], Self.target[0]]
        func learn(_ sign: Double) throws -> LearnedSoup {
            try LearnedSoup(of: inputs, higherIsBetter: sign < 0, settings: settings) { merged in
                let value = try Searches.distance(merged, same)
                return value > 3 ? .nan : sign * value
            }
        }
        let one = try learn(1), again = try learn(1), negated = try learn(-1)
        #expect(one.coefficients == again.coefficients && one.coefficients == negated.coefficients)
        #expect(one.value == -negated.value)
    }

    @Test func aSoupIsNotWorseThanItsStart() throws {
        let inputs = try Searches.inputs()
        var settings = LearnedSoup.Settings()
        settings.evaluationLimit = 1
        settings.start = [0.6, 0.1, 0, 0.3]
        let soup = try LearnedSoup(of: inputs, settings: settings) { try Searches.distance($0, Self.target) }
        // What is zero begins as a thousandth.
        #expect(soup.evaluationCount == 1 && abs(soup.coefficients[0][2] - 1e-3) < 1e-5)
        settings.evaluationLimit = 50
        let searched = try LearnedSoup(of: inputs, settings: settings) { try Searches.distance($0, Self.target) }
        #expect(searched.value <= soup.value)
        settings.start = [1]
        #expect(throws: CairnError.self) { try LearnedSoup(of: inputs, settings: settings) { _ in 0 } }
        #expect(throws: CairnError.self) { try LearnedSoup(of: []) { _ in 0 } }
    }

    @Test func pointsAreCoefficientsAndBack() throws {
        let inputs = try Searches.inputs()
        let given = [0.1, 0.2, 0.3, 0.4]
        for constraint in [CoefficientSpace.Constraint.none, .sumsToOne, .convex] {
            let space = try CoefficientSpace(inputs, grouping: .layers, constraint: constraint)
            let found = try space.coefficients(of: space.point(of: given))
            #expect(found.count == 2)
            for own in found {
                for (one, other) in zip(own, given) { #expect(abs(one - other) < 1e-12, "\(constraint)") }
            }
            #expect(
                try space.coefficients(of: space.uniformPoint)
                    == [[Double]](
                        repeating: [0.25, 0.25, 0.25, 0.25], count: 2))
        }
        // Logarithms far apart are not an overflow.
        let space = try CoefficientSpace(inputs, constraint: .convex)
        #expect(try space.coefficients(of: [0, 5000, 0, -5000]) == [[0, 1, 0, 0]])
    }
}
