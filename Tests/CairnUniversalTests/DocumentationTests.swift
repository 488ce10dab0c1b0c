import CairnBase
import CairnTesting
import Foundation
import Testing

/// The examples of Docs/Rules.md are those that are compiled and run here.
@Suite struct DocumentationTests {
    private let top = URL(fileURLWithPath: Repository.root)

    private func block(_ language: String, of page: String) throws -> [String] {
        let lines = page.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        let begin = try #require(lines.firstIndex(of: "```" + language))
        let end = try #require(lines[(begin + 1)...].firstIndex(of: "```"))
        return Array(lines[(begin + 1)..<end])
    }

    @Test func theExamplesAreTheTestedOnes() throws {
        let page = try String(contentsOf: top.appendingPathComponent("Docs/Rules.md"), encoding: .utf8)
        #expect(try block("yaml", of: page).joined(separator: "\n") == documentedYAML)
        let source = try String(
            contentsOf: top.appendingPathComponent("Tests/CairnUniversalTests/RulesFileTests.swift"), encoding: .utf8)
        let compiled = source.split(separator: "\n").map { $0.trimmingCharacters(in: .whitespaces) }
        let swift = try block("swift", of: page).map { $0.trimmingCharacters(in: .whitespaces) }
        let rules = swift.prefix { !$0.isEmpty }.filter { !$0.contains("UniversalSpec(") }
        for line in rules { #expect(compiled.contains(line), "\(line)") }
    }
}
