import Cairn
import CairnTesting
import Testing

/// The experiments on very short runs: that they run, and say what they found.
@Suite(.serialized) struct ExperimentTests {
    @Test(arguments: [
        "resume-without-optimizer", "lawa", "ema", "upcycle", "soup", "lcsc", "recycle", "wsd-s", "muon-reshard",
        "rebasin", "interpolation", "checkfree",
    ])
    func anExperimentWritesItsTableAndItsPicture(name: String) throws {
        let folder = try TemporaryDirectory()
        // A part of the text is enough.
        let storage = LocalStorage(root: folder.path)
        let kjv = try LocalStorage(root: Repository.fixture("data")).readAll("kjv.txt", limit: 1 << 24)
        try storage.publish(Array(kjv[..<60_000]), as: "text")
        let opticks = try LocalStorage(root: Repository.fixture("data")).readAll("opticks.txt", limit: 1 << 24)
        try storage.publish(Array(opticks[..<30_000]), as: "other")
        let arguments = [
            "experiment", name, "--text", folder.path + "/text", "--digits", Repository.fixture("data/digits.csv"),
            "--other-text", folder.path + "/other", "--out", folder.path, "--steps", "40", "--seeds", "1",
            "--validation", "8", "--evaluations", "40", "--widths", "8", "12",
        ]
        #expect(try Child(arguments).wait() == 0)
        let table = String(decoding: try storage.readAll("\(name).md", limit: 1 << 20), as: UTF8.self)
        let rows = table.split(separator: "\n").filter { $0.hasPrefix("| ") }
        #expect(rows.count > 2 && Set(rows.map { $0.split(separator: "|").count }).count == 1, "\(table)")
        #expect(!table.contains("nan"), "\(table)")
        #expect(table.split(separator: "\n").filter { $0.hasPrefix("- ") }.count >= 2)
        let picture = String(decoding: try storage.readAll("\(name).svg", limit: 1 << 20), as: UTF8.self)
        #expect(picture.contains("<polyline") || picture.contains("<circle"))
        #expect(picture.hasSuffix("</svg>\n"))
        #expect(!picture.contains("nan") && !picture.contains("inf"))
        // What has to hold however short the runs are.
        for promise in ["ends as the uninterrupted one", "without a file"] {
            for claim in table.split(separator: "\n") where claim.contains(promise) {
                #expect(claim.hasPrefix("- Shows"), "\(claim)")
            }
        }
        if name == "interpolation" {
            // Two planes of loss with the three checkpoints that span each, and lines of equal height.
            #expect(picture.split(separator: "<circle").count - 1 == 6)
            #expect(picture.contains("another run") && picture.contains("stroke-opacity"))
        }
    }

    @Test(arguments: [
        ("rebasin", "--text", "data/kjv.txt"), ("interpolation", "--digits", "data/digits.csv"),
        ("soup", "--text", "data/kjv.txt"), ("recycle", "--text", "data/kjv.txt"),
    ])
    func anExperimentSaysWhichDataItNeeds(name: String, option: String, file: String) throws {
        let folder = try TemporaryDirectory()
        #expect(try Child(["experiment", name, option, Repository.fixture(file), "--out", folder.path]).wait() == 1)
    }

    @Test func aTextTooShortToBeHeldOutInHalvesIsRefused() throws {
        let folder = try TemporaryDirectory()
        let opticks = try LocalStorage(root: Repository.fixture("data")).readAll("opticks.txt", limit: 1 << 24)
        // One validation window: nothing would be left to report on.
        try LocalStorage(root: folder.path).publish(Array(opticks[..<300]), as: "other")
        let arguments = [
            "experiment", "soup", "--text", Repository.fixture("data/kjv.txt"), "--other-text", folder.path + "/other",
            "--out", folder.path, "--steps", "40", "--seeds", "1", "--validation", "8", "--evaluations", "20",
        ]
        #expect(try Child(arguments).wait() == 1)
    }

    @Test func anExperimentThatThereIsNotIsRefused() throws {
        let folder = try TemporaryDirectory()
        let words = ["experiment", "perpetuum", "--text", Repository.fixture("data/kjv.txt"), "--out", folder.path]
        #expect(try Child(words).wait() == 64)
    }
}
