import CairnBase
import CairnLayout

/// What the names in expressions stand for: parameters, the mesh, and a rank's coordinates on it.
struct EvaluationContext {
    var parameters: [String: Int]
    var mesh: DeviceMesh
    /// The rank whose coordinates are meant; `nil` where an expression may not depend on the rank.
    var rank: Int?

    /// The value of a parameter or of a coordinate.
    func value(of name: String) throws(CairnError) -> Int {
        if let value = parameters[name] { return value }
        if mesh.size(of: name) != nil {
            guard let rank, let coordinate = mesh.coordinate(ofRank: rank, along: name) else {
                throw CairnError(
                    .invalidArgument, "an expression depends on the rank where all ranks must agree",
                    .init(found: name.debugDescription, advice: "write \(name).size for the size of the axis"))
            }
            return coordinate
        }
        throw CairnError(
            .invalidArgument, "nothing is called \(name.debugDescription)",
            .init(advice: "it must be a capture of the name, a parameter or a mesh axis"))
    }

    /// The size of an axis.
    func size(of axis: String) throws(CairnError) -> Int {
        guard let size = mesh.size(of: axis) else {
            throw CairnError(
                .invalidArgument, "the mesh has no axis \(axis.debugDescription)",
                .init(found: mesh.axes.map(\.name).joined(separator: ", ")))
        }
        return size
    }

    /// The same for one rank.
    func at(rank: Int) -> EvaluationContext {
        var copy = self
        copy.rank = rank
        return copy
    }

    /// The number that an expression without captures comes to.
    func number(_ expression: IntegerExpression) throws(CairnError) -> Int {
        let parsed = try ArithmeticParser.parse(expression.text)
        do throws(CairnError) {
            return try LinearForm(parsed, captures: [], in: self).constant
        } catch {
            throw error.adding(.init(found: expression.text.debugDescription))
        }
    }

    /// The numbers that expressions come to.
    func numbers(_ expressions: [IntegerExpression]) throws(CairnError) -> [Int] {
        var numbers: [Int] = []
        for expression in expressions { numbers.append(try number(expression)) }
        return numbers
    }

    /// A number that is at least `least`; the error says what it is for.
    func number(_ expression: IntegerExpression, of what: String, atLeast least: Int) throws(CairnError) -> Int {
        let number = try number(expression)
        guard number >= least else {
            throw CairnError(
                .invalidArgument, "\(what) is out of range",
                .init(expected: "at least \(least)", found: "\(expression.text) = \(number)"))
        }
        return number
    }
}
