public import CairnLayout
public import CairnTensor

/// A piece of a tensor as it is stored, and the file that holds it.
public struct StoredPiece: Sendable, Hashable {
    /// The part of the whole tensor.
    public var region: Region
    /// The file's name or path, as the format has it.
    public var file: String
    /// The type of the stored elements. A view may show them in another one.
    public var scalarType: ScalarType

    public init(region: Region, file: String, scalarType: ScalarType) {
        self.region = region
        self.file = file
        self.scalarType = scalarType
    }
}

/// Which save a checkpoint is, and of which ranks.
public struct CheckpointIdentity: Sendable, Hashable {
    /// The step of training.
    public var step: Int
    /// What tells the save from every other one.
    public var saveID: SaveID
    /// How many ranks saved it.
    public var rankCount: Int
    /// The meshes that their layouts name.
    public var meshes: [DeviceMesh]

    public init(step: Int, saveID: SaveID, rankCount: Int, meshes: [DeviceMesh]) {
        self.step = step
        self.saveID = saveID
        self.rankCount = rankCount
        self.meshes = meshes
    }
}
