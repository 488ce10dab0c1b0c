import CairnLayout

/// Meshes for a person.
enum MeshText {
    /// `dp=2,tp=4`, several with `; ` between them; `nil` for none.
    static func describe(_ meshes: [DeviceMesh]) -> String? {
        meshes.isEmpty ? nil : meshes.map(\.description).joined(separator: "; ")
    }
}
