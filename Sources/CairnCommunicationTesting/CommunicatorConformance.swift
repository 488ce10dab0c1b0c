import CairnBase
package import CairnCommunication

/// One behaviour that every ``Communicator`` must show: a check that throws ``ConformanceFailure`` where it does not.
///
/// Every rank of the group runs the same checks in the same order, with the same seed.
package struct CommunicatorConformance: Sendable, CustomStringConvertible {
    /// A sentence in camel case.
    package let name: String
    private let body: @Sendable (any Communicator, inout ConformanceRandom) throws -> Void

    init(_ name: String, _ body: @escaping @Sendable (any Communicator, inout ConformanceRandom) throws -> Void) {
        self.name = name
        self.body = body
    }

    /// Runs this check on the calling rank.
    package func check(_ communicator: any Communicator, seed: UInt64 = 1) throws {
        var random = ConformanceRandom(seed: seed)
        do {
            try body(communicator, &random)
        } catch let failure as ConformanceFailure {
            throw ConformanceFailure(
                description: "\(name), rank \(communicator.rank) of \(communicator.size), seed \(seed): \(failure)")
        }
    }

    /// Runs every check on the calling rank.
    package static func run(_ communicator: any Communicator, seed: UInt64 = 1) throws {
        for conformance in all { try conformance.check(communicator, seed: seed) }
    }

    package var description: String { name }

    /// Every check.
    package static let all: [CommunicatorConformance] = sums + movements + messages + groups + mistakes
}

/// A communicator did not do what ``Communicator`` promises.
package struct ConformanceFailure: Error, CustomStringConvertible {
    package var description: String
}

func require(_ condition: Bool, _ message: @autoclosure () -> String) throws {
    if !condition { throw ConformanceFailure(description: message()) }
}

func requireEqual<Value: Equatable>(_ found: Value, _ expected: Value, _ what: String) throws {
    try require(
        found == expected,
        "\(what): expected \(String(describing: expected).prefix(200)), "
            + "found \(String(describing: found).prefix(200))")
}

/// The error of `body`, which must be a ``CairnError`` of that code.
@discardableResult
func requireError(_ code: CairnError.Code, _ what: String, _ body: () throws -> Void) throws -> CairnError {
    do {
        try body()
    } catch let error as CairnError {
        try requireEqual(error.code, code, "\(what), \(error)")
        return error
    }
    throw ConformanceFailure(description: "\(what): expected the error \(code), found none")
}
