public import CairnBase
public import CairnCheckpoint
import CairnTensor

/// The tensors of a checkpoint that are lost: those that a pattern names, or those that cannot be read.
public struct LostTensors: Sendable {
    /// How much of a tensor is lost.
    package struct Extent: Sendable, Hashable, CustomStringConvertible {
        package var tensor: String
        /// How many of the stored pieces are lost, and how many there are; `nil` for a tensor of which that is not known.
        package var pieces: (lost: Int, all: Int)?

        package var isPartial: Bool { pieces.map { $0.lost < $0.all } ?? false }

        /// Such as `model.layers.3.w: 1 of 4 pieces`.
        package var description: String {
            guard let pieces, isPartial else { return tensor }
            return "\(tensor): \(pieces.lost) of \(pieces.all) pieces"
        }

        package static func == (one: Extent, other: Extent) -> Bool {
            one.tensor == other.tensor && one.pieces?.lost == other.pieces?.lost && one.pieces?.all == other.pieces?.all
        }

        package func hash(into hasher: inout Hasher) { hasher.combine(tensor) }
    }

    /// Which tensors of the checkpoint; sorted.
    package let names: [String]
    /// Tensors that the checkpoint should have and does not list, because the file that has them is missing.
    package let absent: [String]
    /// How much of each is lost.
    package let extents: [Extent]
    /// The patterns that were given; none where it was found out.
    package let patterns: [String]
    /// Which names are meant that the checkpoint does not list.
    private let globs: [GlobPattern]
    /// Whether what belongs to a lost parameter (moments, master copies, step counts) is lost with it.
    let takesState: Bool

    /// What fits one of the patterns, and everything that a training state keeps beside it: with `model.layers.{8..11}.**` the
    /// moments of these layers too.
    ///
    /// Layers that the checkpoint does not list at all, between others that it lists, are lost too if the patterns name them.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` for an invalid pattern.
    public init(_ patterns: [String], of reader: any CheckpointReader) throws(CairnError) {
        var globs: [GlobPattern] = []
        for pattern in patterns { globs.append(try GlobPattern(pattern)) }
        self.globs = globs
        self.patterns = patterns
        // A tie has no elements of its own: what it stands for is lost or not.
        names = reader.tensors.filter { tensor in tensor.tiedTo == nil && globs.contains { $0.matches(tensor.name) } }.map(\.name)
        absent = []
        extents = names.map { Extent(tensor: $0) }
        takesState = true
    }

    /// What cannot be read: tensors with a piece in a file that is missing or damaged.
    ///
    /// - Parameters:
    ///   - absent: Tensors that a missing file has and the checkpoint does not list.
    ///   - deep: Whether all data are read, and compared with their checksums; else only that the files are there and begin as
    ///     they should.
    /// - Throws: What `progress` throws, and an error that says nothing of the data, such as a failing disk.
    package init(
        unreadableIn reader: any CheckpointReader, absent: [String] = [], deep: Bool,
        progress: @escaping @Sendable (Int) throws -> Void = { _ in }
    ) throws {
        var lost: Set<ExactString> = [], files: [String] = []
        for damage in try reader.verify(deep: deep, progress: progress).damages {
            guard damage.error.code.isUnusable else { throw damage.error }
            if let tensor = damage.error.context.tensor {
                lost.insert(ExactString(tensor))
            } else if let file = damage.error.context.file {
                files.append(file)
            }
        }
        var extents: [Extent] = []
        for tensor in reader.tensors where tensor.tiedTo == nil {
            let pieces = try reader.storedPieces(of: tensor.name) ?? []
            let gone = pieces.count { piece in files.contains { Self.names($0, piece.file) } }
            guard gone > 0 || lost.contains(ExactString(tensor.name)) else { continue }
            extents.append(Extent(tensor: tensor.name, pieces: pieces.isEmpty ? nil : (max(1, gone), pieces.count)))
        }
        self.extents = extents + absent.sorted { ExactString($0) < ExactString($1) }.map { Extent(tensor: $0) }
        names = extents.map(\.tensor)
        self.absent = absent
        patterns = []
        globs = []
        takesState = false
    }

    /// Whether nothing is lost.
    public var isEmpty: Bool { names.isEmpty && absent.isEmpty && patterns.isEmpty }

    /// Whether a tensor that the checkpoint does not list is meant.
    func means(absent name: String) -> Bool {
        globs.contains { $0.matches(name) } || absent.contains { ExactString($0) == ExactString(name) }
    }

    /// Whether a path in an error is that of a file.
    private static func names(_ path: String, _ file: String) -> Bool {
        path == file || path.hasSuffix("/" + file)
    }
}
