import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnHDF5
import CairnInterop
import CairnProtect
import CairnStorage

extension CheckpointFormats {
    /// Every format that the tool knows. A new one is added here, or to ``CheckpointFormats/interop``.
    static let known = CheckpointFormats(interop.formats + [.hdf5, .keras])

    /// Finds out what a path holds.
    ///
    /// - Parameters:
    ///   - forced: The only format to think of, as the user said.
    ///   - looksInside: Whether the message about a directory says what in it is a checkpoint.
    /// - Throws: As ``recognise(_:forced:)``, and ``CairnError/Code/unsupported`` for what is not recognised; the message says
    ///   what was seen.
    static func recognise(
        _ path: String, as forced: FormatName? = nil, looksInside: Bool = true
    ) throws(CairnError) -> RecognisedCheckpoint {
        let reading = try RepairedReading.reading(of: path) { RepairedStorage($0) }
        if let found = try known.recognise(path, forced: forced?.name, reading: reading) { return found }
        if try PathInspection.kind(of: path) == .directory {
            throw try UnknownDirectory.error(path, PathInspection.names(in: path), looksInside: looksInside)
        }
        let found = try ForeignFile(path: path)
        throw CairnError(
            found?.isDamaged == true ? .incomplete : .unsupported, "the file is not a checkpoint that Cairn reads",
            .init(
                file: path, expected: known.formats.filter { $0.kinds.contains(.file) }.map(\.title).joined(separator: ", "),
                found: found?.name ?? "something else",
                advice: found == nil ? "if it is safetensors all the same, say --format safetensors" : found?.advice))
    }
}

extension RecognisedCheckpoint {
    /// The run, if it is a run or one of its checkpoints.
    var store: String? { format.name == CheckpointFormat.cairn.name ? path : nil }

    /// The step, if it is one checkpoint of a run.
    var step: Int? { claim.step }
}

/// A format's name, as `--format` takes it.
struct FormatName: ExpressibleByArgument, Equatable, Sendable {
    let name: String

    static let cairn = FormatName(CheckpointFormat.cairn)

    init(_ format: CheckpointFormat) { name = format.name }

    init?(argument: String) {
        guard let format = CheckpointFormats.known.named(argument) else { return nil }
        self.init(format)
    }

    static var allValueStrings: [String] { CheckpointFormats.known.formats.map(\.name) }
}

/// What is to be written, as `--to` takes it.
struct OutputFormat: ExpressibleByArgument, Sendable {
    let target: CheckpointTarget

    var name: String { target.name }

    static let safetensors = OutputFormat(CheckpointFormat.safetensors.targets[0])
    static let run = OutputFormat(CheckpointFormat.cairn.targets[0])

    private init(_ target: CheckpointTarget) { self.target = target }

    /// Whether it is a checkpoint of a run.
    var isRun: Bool { target.place == .run }

    init?(argument: String) {
        guard let target = CheckpointFormats.known.target(named: argument) else { return nil }
        self.init(target)
    }

    static var allValueStrings: [String] { CheckpointFormats.known.targets.map(\.name) }

    /// The names of the targets that a setting can be said of, for messages: `dcp and dcp-safetensors`.
    static func names(taking setting: CheckpointTarget.Setting) -> String {
        CheckpointFormats.known.targets.filter { $0.settings.contains(setting) }.map(\.name).joined(separator: " and ")
    }

    /// - Throws: `ValidationError` when a setting was said that the target does not take.
    func check(_ option: String, isGiven: Bool, _ setting: CheckpointTarget.Setting) throws {
        guard isGiven, !target.settings.contains(setting) else { return }
        throw ValidationError("\(option) goes with --to \(Self.names(taking: setting)) only")
    }

    /// A line for each target, for help.
    static var summary: String {
        let targets = CheckpointFormats.known.targets
        let width = targets.map(\.name.count).max() ?? 0
        return targets.map { target in
            "  \(target.name)\(String(repeating: " ", count: width - target.name.count + 2))\(target.summary)"
        }.joined(separator: "\n")
    }
}
