import Cairn
import CairnTesting
import Testing

/// The experiment on a small model.
@Suite(.serialized) struct LayoutsCommandTests {
    private static let small = [
        "layouts", "--text", Repository.fixture("data/kjv.txt"), "--layers", "4", "--heads", "4",
        "--width", "16", "--context", "16", "--batch", "4",
    ]

    @Test func everyLayoutGoesOnAndIsInTheTableAndThePicture() throws {
        let folder = try TemporaryDirectory()
        #expect(try Child(Self.small + ["--steps", "40", "--out", folder.path]).wait() == 0)
        let storage = LocalStorage(root: folder.path)
        let table = try storage.readAll("layouts.csv", limit: 1 << 20)
        let rows = String(decoding: table, as: UTF8.self).split(separator: "\n")
        #expect(rows.count == 41)
        #expect(rows[1].hasSuffix(",,,,,,,,,,"))
        #expect(rows[40].split(separator: ",").count == 12)
        let picture = try storage.readAll("layouts.svg", limit: 1 << 20)
        let curves = String(decoding: picture, as: UTF8.self).split(separator: "\n").filter { $0.hasPrefix("<polyline") }
        #expect(curves.count == 21)
    }

    @Test func aDeviationBeyondTheToleranceIsAFailure() throws {
        let folder = try TemporaryDirectory()
        let arguments = Self.small + ["--steps", "20", "--tolerance", "0", "--out", folder.path]
        #expect(try Child(arguments).wait() == 1)
    }
}
