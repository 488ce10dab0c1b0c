/// Where the sources and fixtures are that a test was built from.
package enum Repository {
    /// The folder that holds Package.swift.
    package static let root = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(3)
        .joined(separator: "/")

    /// The path of a fixture, such as `cairn/v1`.
    package static func fixture(_ name: String) -> String { "\(root)/Fixtures/\(name)" }
}
