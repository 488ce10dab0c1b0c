import CairnBase
import CairnStorage
import CairnTesting

/// Files that other software wrote, and what is in them.
enum SafeTensorsFixtures {
    /// The fixtures' directory.
    static let path = Repository.fixture("safetensors")

    static var storage: LocalStorage { LocalStorage(root: path) }

    /// What a family of fixtures says of itself.
    static func truth(_ family: String) throws -> JSONObject {
        try JSONValue(parsing: storage.readAll(family + "/truth/truth.json")).asObject()
    }
}
