public import CairnBase
package import CairnStorage

/// A format of checkpoints: how it is recognised, opened and written.
///
/// A format is one value of this type, beside its reader and writers, and one entry in a ``CheckpointFormats`` list. What else
/// knows of formats asks that list: recognition, the names that options take, help, what is kept from being written over.
public struct CheckpointFormat: Sendable {
    /// What a path can be.
    public enum PathKind: String, Sendable, CaseIterable {
        case file, directory
    }

    /// How sure a format is of a path. The surest format gets it; two that are equally sure make it ambiguous.
    public enum Confidence: Int, Sendable, Comparable {
        /// By the name alone, as of a file that was cut short in its first bytes.
        case name
        /// Something in it would be this format's.
        case trace
        /// It is of a kind that this format has most of.
        case kind
        /// It has this format's mark.
        case mark

        public static func < (one: Confidence, other: Confidence) -> Bool { one.rawValue < other.rawValue }
    }

    /// A checkpoint that a format has recognised.
    public struct Claim: Sendable {
        /// What is to be opened: the path that was looked at, or another that it stands for.
        package var path: String
        package var confidence: Confidence
        /// The names of formats whose files are this one's by right, so that their claims do not count.
        package var instead: [String]
        /// Which checkpoint of a run it is, for our own format.
        package var step: Int?
        /// Why it cannot be opened, although it is this format's.
        public var problem: CairnError?

        public init(_ path: String, _ confidence: Confidence = .mark, instead: [String] = []) {
            self.path = path
            self.confidence = confidence
            self.instead = instead
        }
    }

    /// What of a claimed path is wanted.
    public struct OpenOptions: Sendable {
        /// Which of several saves in a file, from 1.
        public var part: Int?
        /// Which checkpoint of a run.
        public var step: Int?
        /// Whether a checkpoint may be opened some of whose files are missing: tensors in them are listed as far as the rest
        /// describes them, and cannot be read. A format that knows no such way opens nothing then, as always.
        package var toleratesMissingFiles = false
        /// What files are read through, where not as they are.
        package var reading: ReadingStorage?

        public init(part: Int? = nil, step: Int? = nil) {
            self.part = part
            self.step = step
        }
    }

    /// A checkpoint that was opened.
    public struct Opening {
        package var reader: any CheckpointReader
        /// Which files of a directory are in it; `nil` where all of them are.
        package var files: [String]?
        /// Tensors of missing files that the reader does not list, by their names.
        package var absentTensors: [String] = []

        public init(_ reader: any CheckpointReader, files: [String]? = nil) {
            self.reader = reader
            self.files = files
        }
    }

    /// As options take it: `safetensors`.
    package let name: String
    /// For people: `torch.save`.
    package let title: String
    /// What a checkpoint of it can be.
    package let kinds: Set<PathKind>
    /// What the names of its files end with, as far as they say anything. Recognition looks further.
    public var fileExtensions: [String] = []
    /// Whether a file can hold several saves, of which one is chosen.
    package var hasParts = false
    /// Whether opening makes sure that every tensor is covered by what is stored.
    package var checksCoverage = false
    /// Why data may have no checksums, as the end of a sentence.
    package var withoutChecksums = "the format has none"
    /// What can be written.
    package var targets: [CheckpointTarget] = []
    /// Says whether a path is a checkpoint of this format; `nil` when it is not.
    package let recognise: @Sendable (PathContents) throws(CairnError) -> Claim?
    /// Opens what was recognised.
    package let open: @Sendable (_ path: String, OpenOptions) throws -> Opening
    /// Opens what each rank saved, for rules that gather it; `nil` where the ranks' files are checkpoints themselves.
    package var openRanks: (@Sendable (_ path: String) throws -> [any CheckpointReader])?

    public init(
        name: String, title: String, kinds: Set<PathKind>,
        recognise: @escaping @Sendable (PathContents) throws(CairnError) -> Claim?,
        open: @escaping @Sendable (_ path: String, OpenOptions) throws -> Opening
    ) {
        self.name = name
        self.title = title
        self.kinds = kinds
        self.recognise = recognise
        self.open = open
    }
}

/// What a conversion can write: a format, or one of its forms.
package struct CheckpointTarget: Sendable {
    /// What is at the path that is written to.
    package enum Place: Sendable {
        /// One file.
        case file
        /// A directory of its own; old files of the format in it are replaced.
        case directory
        /// A file, or several that are named after it, in a directory with others.
        case namedFiles
        /// A checkpoint of a run.
        case run
    }

    /// Files among others in a directory.
    public struct NamedFiles: Sendable {
        public var directory: String
        /// Whether a file of this name is written or deleted.
        public var includes: @Sendable (_ name: String) -> Bool

        public init(in directory: String, includes: @escaping @Sendable (_ name: String) -> Bool) {
            self.directory = directory
            self.includes = includes
        }
    }

    /// What the user may say of it.
    package enum Setting: Sendable, Hashable {
        case step, fileCount, maximumShardSize, compression
    }

    /// How to write. What a target has no place for is left out.
    package struct Options: Sendable {
        /// Whether a checkpoint may be there already.
        package var replaces = false
        package var step = 0
        /// Over how many files tensors are sharded.
        package var fileCount = 1
        package var maximumShardByteCount = 5_000_000_000
        package var compression: Compression = .none
        /// Numbers that go with it.
        package var metrics: [String: Double] = [:]
        /// What it is made from.
        package var lineage: Lineage?
        /// Text for files that hold some beside their tensors.
        package var metadata: [String: String] = [:]

        package init() {}
    }

    /// As options take it: `safetensors-sharded`.
    package let name: String
    /// What is written, for help: `a file for torch.load`.
    package let summary: String
    package let place: Place
    package let settings: Set<Setting>
    /// For ``Place/namedFiles``: which files a path stands for.
    public var namedFiles: (@Sendable (_ path: String) -> NamedFiles)?
    /// Makes the writer; nothing is written yet.
    package let writer: @Sendable (_ path: String, Options) throws -> any CheckpointWriter

    package init(
        name: String, summary: String, place: Place, settings: Set<Setting> = [],
        writer: @escaping @Sendable (_ path: String, Options) throws -> any CheckpointWriter
    ) {
        self.name = name
        self.summary = summary
        self.place = place
        self.settings = settings
        self.writer = writer
    }
}
