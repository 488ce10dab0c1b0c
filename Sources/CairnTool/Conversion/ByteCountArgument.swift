import ArgumentParser

/// A size of the command line: `5GB`, `512MiB`.
struct ByteCountArgument: ExpressibleByArgument, Sendable {
    let byteCount: Int

    init(byteCount: Int) { self.byteCount = byteCount }

    /// As it is written: 5GB.
    var defaultValueDescription: String {
        byteCount % 1_000_000_000 == 0 ? "\(byteCount / 1_000_000_000)GB" : String(byteCount)
    }

    init?(argument: String) {
        guard let byteCount = ByteCountText.parse(argument), byteCount > 0 else { return nil }
        self.byteCount = byteCount
    }
}
