import CairnBase
import CairnMerge
import CairnStorage

/// A file that says which units a network has.
enum SpecificationFile {
    static func read(_ path: String) throws(CairnError) -> PermutationSpec {
        let (directory, name) = PathInspection.split(path)
        return try PermutationSpec(json: LocalStorage(root: directory).readAll(name, limit: 64 << 20), file: path)
    }

    /// - Throws: ``CairnError/Code/alreadyExists`` where a file is already.
    static func checkFree(_ path: String) throws(CairnError) {
        guard try PathInspection.kind(of: path) == nil else {
            throw CairnError(
                .alreadyExists, "there is a file already", .init(file: path, advice: "choose another, or say --force"))
        }
    }

    static func write(_ spec: PermutationSpec, to path: String) throws(CairnError) {
        let (directory, name) = PathInspection.split(path)
        try LocalStorage(root: directory).publish(spec.json, as: name)
    }
}
