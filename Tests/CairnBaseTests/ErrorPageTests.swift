import CairnBase
import CairnTesting
import Foundation
import Testing

/// Docs/Errors.md lists every code, once, in order.
@Suite struct ErrorPageTests {
    @Test func everyCodeIsOnThePageAndNoOther() throws {
        let page = try String(
            contentsOf: URL(fileURLWithPath: Repository.root).appendingPathComponent("Docs/Errors.md"), encoding: .utf8)
        let rows = page.split(separator: "\n").filter { $0.hasPrefix("| `") }
        let codes = rows.compactMap { $0.split(separator: "`").dropFirst().first.map(String.init) }
        #expect(codes == CairnError.Code.all.map(\.description))
        #expect(codes.count == 14)
        for row in rows {
            let cells = row.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
            #expect(cells.count == 3 && cells.allSatisfy { $0.count > 10 || $0.hasPrefix("`") }, "\(row)")
        }
    }
}
