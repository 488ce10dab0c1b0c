import ArgumentParser
import CairnBase
import CairnCheckpoint
import CairnDigest
import CairnTensor

/// `cairn digest`
struct DigestCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "digest", abstract: "Print a SHA-256 of every tensor, the same for the same state in any format.",
        discussion: """
            The sum is of a tensor's contiguous row-major little-endian bytes, whole and unsharded, so that it does \
            not \
            depend on format or layout. The values beside the tensors are listed as they are. Tensors are sorted by \
            name; two digests can be compared with any text tool.

            Example:
              cairn digest runs/kjv@400 --json > before.json
            """)

    @Argument(help: "A run, a checkpoint, or a file or directory of another format.")
    var path: String

    @OptionGroup var gather: GatherOptions

    @OptionGroup var options: ReadingOptions

    func run() throws {
        let opened = try gather.open(path, format: options.format, part: options.part)
        let digest = try CheckpointDigest(of: opened.reader)
        if options.json {
            try StandardOutput.write(try digest.json() + [UInt8(ascii: "\n")])
            return
        }
        for tensor in digest.tensors {
            let name = PrintableText.escape(tensor.name)
            try StandardOutput.line("\(tensor.sha256)  \(tensor.scalarType)\(tensor.shape)  \(name)")
        }
        for leaf in digest.objects {
            let path = leaf.path.map { component in
                switch component {
                case .string(let key): key
                default: ValueText.describe(component)
                }
            }
            try StandardOutput.line(
                PrintableText.escape("value  \(path.joined(separator: " / "))  \(ValueText.describe(leaf.value))"))
        }
    }
}
