import CairnBase
import CairnStorage

/// Files that other software wrote, and what is in them.
enum SafeTensorsFixtures {
    private static let sourceFile = #filePath

    /// The fixtures' directory.
    static var path: String {
        sourceFile.split(separator: "/", omittingEmptySubsequences: false).dropLast(4).joined(separator: "/")
            + "/Fixtures/safetensors"
    }

    static var storage: LocalStorage { LocalStorage(root: path) }

    /// What a family of fixtures says of itself.
    static func truth(_ family: String) throws -> JSONObject {
        try JSONValue(parsing: storage.readAll(family + "/truth/truth.json")).asObject()
    }
}
