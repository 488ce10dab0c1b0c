public import CairnLayout
public import CairnTensor

/// The universal metadata of one checkpoint. A checkpoint exists when its manifest does.
public struct Manifest: Sendable, Equatable {
    /// The newest format version that this code reads and the one that it writes.
    public static let formatVersion = 1
    /// A longer file is not a manifest.
    static let maximumByteCount = 1 << 30

    /// A rank file, as the manifest binds it.
    public struct File: Sendable, Hashable {
        /// The name beside the manifest.
        public var name: String
        /// The rank that wrote it.
        public var rank: Int
        /// The length of the file.
        public var byteCount: Int
        /// The length of its safetensors header with the eight bytes before it: where the data starts.
        public var headerByteCount: Int
        /// CRC-32C of those bytes. The header holds the checksums of the data, so this binds the whole file.
        public var headerChecksum: UInt32
    }

    /// One piece of a tensor and the file it is in.
    public struct Fragment: Sendable, Hashable {
        /// Index into ``Manifest/files``.
        public var file: Int
        /// The part of the whole tensor.
        public var region: Region

        package init(file: Int, region: Region) {
            self.file = file
            self.region = region
        }
    }

    /// A logical tensor and where its pieces are.
    public struct StoredTensor: Sendable, Hashable {
        public var name: String
        public var scalarType: ScalarType
        /// The shape of what is stored. Where the layout says that the ranks hold partial values, the partial values are
        /// stacked along a first dimension.
        public var shape: Shape
        /// The pieces, disjoint, together the whole tensor. Empty where a layout says where they are.
        public var fragments: [Fragment] = []
        /// Index into ``Manifest/layouts``: which rank's file holds which piece follows from it by the writer rule of
        /// ``WritePlan``.
        public var layout: Int?
    }

    /// The software that wrote it.
    public var producer: String
    /// The id that every file of this save carries.
    public var saveID: SaveID
    /// The training step.
    public var step: Int
    /// When the save began, in seconds since 1970.
    public var time: Double
    /// Numbers to choose checkpoints by, such as a validation loss.
    public var metrics: [String: Double]
    /// What it was made from.
    public var lineage: Lineage?
    /// One for each rank, in the order of ranks.
    public var files: [File]
    /// How tensors lie on the ranks, each layout once.
    public var layouts: [Layout] = []
    /// Sorted by the bytes of the names.
    public var tensors: [StoredTensor]
    /// Names that share another name's tensor: sorted by the bytes of the names.
    public var ties: [Tie]
    /// Sorted by the bytes of the names.
    public var values: [NamedValue]

    /// What the save that returned this manifest has set aside because it was unusable and in the way. It is not stored:
    /// `nil` in a manifest that was read.
    public internal(set) var setAside: SetAside?

    /// A name for another name's tensor.
    public struct Tie: Sendable, Hashable {
        public var name: String
        public var target: String
    }

    /// The meshes of its layouts, each once.
    public var meshes: [DeviceMesh] {
        var known = Set<DeviceMesh>()
        return layouts.map(\.mesh).filter { known.insert($0).inserted }
    }

    /// The bytes of all its files, the manifest not counted.
    public var byteCount: Int { files.reduce(0) { $0 + $1.byteCount } }
}
