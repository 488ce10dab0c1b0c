import CairnTesting
import Testing

/// Arguments that make no sense end in an error, not in a trap.
@Suite struct ArgumentTests {
    @Test(arguments: [
        ("--batch", "9223372036854775807", 1), ("--batch", "0", 1), ("--width", "4611686018427387904", 1),
        ("--context", "0", 1), ("--steps", "9223372036854775807", 64), ("--rate", "nan", 64), ("--rate", "inf", 64),
        ("--save-every", "0", 64), ("--save-every", "auto", 64), ("--mtbf", "6h", 64), ("--mtbf", "-1s", 64),
        ("--ranks", "0", 1), ("--freeze", "none.*", 1),
        ("--experts", "-1", 64), ("--experts", "9223372036854775807", 1), ("--mesh", "dp=9223372036854775807", 1),
    ])
    func aNumberBeyondReasonIsRefused(option: String, value: String, exitCode: Int32) throws {
        let folder = try TemporaryDirectory()
        let child = try Child([
            "run", "--text", Repository.fixture("data/kjv.txt"), "--schedule", "wsd", "--out", folder.path, option, value,
        ])
        #expect(child.wait() == exitCode)
    }

    @Test func aDemoThatNeverSavesIsRefused() throws {
        let folder = try TemporaryDirectory()
        let arguments = ["demo", "--text", Repository.fixture("data/kjv.txt"), "--out", folder.path, "--save-every", "0"]
        #expect(try Child(arguments).wait() == 64)
    }
}
