package import CairnBase
package import CairnLayout
package import CairnTensor

/// The universal metadata of one checkpoint. A checkpoint exists when its manifest does.
public struct Manifest: Sendable, Equatable {
    /// The newest format version that this code reads and the one that it writes.
    package static let formatVersion = 1
    /// A longer file is not a manifest.
    package static let maximumByteCount = 1 << 30

    /// A rank file, as the manifest binds it.
    package struct File: Sendable, Hashable {
        /// The name beside the manifest.
        package var name: String
        /// The rank that wrote it.
        package var rank: Int
        /// The length of the file.
        package var byteCount: Int
        /// The length of its safetensors header with the eight bytes before it: where the data starts.
        package var headerByteCount: Int
        /// CRC-32C of those bytes. The header holds the checksums of the data, so this binds the whole file.
        package var headerChecksum: UInt32
    }

    /// One piece of a tensor and the file it is in.
    package struct Fragment: Sendable, Hashable {
        /// Index into ``Manifest/files``, and on into ``Manifest/earlier``.
        package var file: Int
        /// The part of the whole tensor.
        package var region: Region

        package init(file: Int, region: Region) {
            self.file = file
            self.region = region
        }
    }

    /// A logical tensor and where its pieces are.
    package struct StoredTensor: Sendable, Hashable {
        package var name: String
        package var scalarType: ScalarType
        /// The shape of what is stored. Where the layout says that the ranks hold partial values, the partial values are
        /// stacked along a first dimension.
        package var shape: Shape
        /// The pieces, disjoint, together the whole tensor. Empty where a layout says where they are.
        package var fragments: [Fragment] = []
        /// Index into ``Manifest/layouts``: which rank's file holds which piece follows from it by the writer rule of
        /// ``WritePlan``.
        package var layout: Int?
        /// With a layout: the ranks whose pieces are in files of earlier saves, ascending.
        package var elsewhere: [Elsewhere] = []
    }

    /// The software that wrote it.
    package var producer: String
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
    package var files: [File]
    /// Files of earlier saves that hold what has not changed since.
    package var earlier: [EarlierFile] = []
    /// How tensors lie on the ranks, each layout once.
    package var layouts: [Layout] = []
    /// Sorted by the bytes of the names.
    package var tensors: [StoredTensor]
    /// Names that share another name's tensor: sorted by the bytes of the names.
    package var ties: [Tie]
    /// Sorted by the bytes of the names.
    package var values: [NamedValue]

    /// What the save that returned this manifest has set aside because it was unusable and in the way. It is not stored:
    /// `nil` in a manifest that was read.
    public internal(set) var setAside: SetAside?

    /// A name for another name's tensor.
    package struct Tie: Sendable, Hashable {
        package var name: String
        package var target: String
    }

    /// The meshes of its layouts, each once.
    package var meshes: [DeviceMesh] {
        var known = Set<DeviceMesh>()
        return layouts.map(\.mesh).filter { known.insert($0).inserted }
    }

    /// The bytes of all its files, the manifest not counted.
    public var byteCount: Int { files.reduce(0) { $0 + $1.byteCount } }
}

extension Manifest {
    /// The tensors that the fragments of all ranks' files make up, sorted by name. Whether they cover anything is for
    /// ``validate()`` to say.
    ///
    /// - Parameter contributions: The fragments of each file, in the order of ranks.
    /// - Throws: ``CairnError/Code/mismatch`` when ranks disagree about a tensor.
    static func tensors(of contributions: [[StoredFragment]]) throws(CairnError) -> [StoredTensor] {
        var tensors: [StoredTensor] = []
        var positions: [ExactString: Int] = [:]
        for (rank, fragments) in contributions.enumerated() {
            for fragment in fragments {
                let stored = Fragment(file: rank, region: fragment.region)
                guard let position = positions[ExactString(fragment.name)] else {
                    positions[ExactString(fragment.name)] = tensors.count
                    tensors.append(
                        StoredTensor(
                            name: fragment.name, scalarType: fragment.scalarType, shape: fragment.globalShape,
                            fragments: [stored]))
                    continue
                }
                let (type, shape) = (tensors[position].scalarType, tensors[position].shape)
                guard shape == fragment.globalShape, type == fragment.scalarType else {
                    throw CairnError(
                        .mismatch, "the ranks disagree about a tensor, so nothing is committed",
                        .init(
                            tensor: fragment.name, rank: rank, expected: "\(type)\(shape)",
                            found: "\(fragment.scalarType)\(fragment.globalShape)"))
                }
                tensors[position].fragments.append(stored)
            }
        }
        return tensors.sorted { ExactString($0.name) < ExactString($1.name) }
    }
}

extension Manifest {
    /// A manifest as long as that of a save under these layouts, for its length alone: the files have names and lengths of the
    /// usual form but stand for nothing.
    ///
    /// - Throws: What layouts that do not fit throw.
    package init(asLongAsOf tensors: [PlacedTensor]) throws(CairnError) {
        let saveID = SaveID()
        let rankCount = tensors.first?.layout.mesh.rankCount ?? 1
        let files = (0..<rankCount).map { rank in
            File(
                name: RankFileName.make(rank: rank, saveID: saveID), rank: rank, byteCount: 1 << 32 + rank,
                headerByteCount: 1 << 16, headerChecksum: UInt32(truncatingIfNeeded: rank &* 0x9E37_79B9))
        }
        self.init(
            producer: Producer.name, saveID: saveID, step: 1, time: 0, metrics: [:], lineage: nil, files: files,
            tensors: [], ties: [], values: [])
        try place(tensors.sorted { ExactString($0.name) < ExactString($1.name) })
    }
}
