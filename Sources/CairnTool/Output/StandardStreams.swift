import CairnBase

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Standard output: the result.
enum StandardOutput {
    /// Writes text and a newline.
    ///
    /// - Throws: ``CairnError/Code/inputOutput`` when not all of it could be written, so that a full disk is not a
    ///   success.
    static func line(_ text: String) throws(CairnError) {
        try write(Array((text + "\n").utf8))
    }

    /// Writes bytes.
    ///
    /// - Throws: ``CairnError/Code/inputOutput``.
    static func write(_ bytes: [UInt8]) throws(CairnError) {
        let failure = writeAll(bytes, to: STDOUT_FILENO)
        guard let failure else { return }
        throw CairnError(.inputOutput, String(cString: strerror(failure)), .init(file: "standard output"))
    }
}

/// Standard error: talk.
enum StandardError {
    /// Writes text and a newline. A failure is ignored, there being nowhere to report it.
    static func line(_ text: String) {
        _ = writeAll(Array((text + "\n").utf8), to: STDERR_FILENO)
    }

    /// Writes text as it is.
    static func write(_ text: String) {
        _ = writeAll(Array(text.utf8), to: STDERR_FILENO)
    }

    /// A remark that is not a failure.
    static func note(_ text: String) {
        line("cairn: note: " + PrintableText.escape(text))
    }
}

/// Writes everything, or returns the error number.
private func writeAll(_ bytes: [UInt8], to descriptor: Int32) -> Int32? {
    bytes.withUnsafeBytes { buffer in
        var written = 0
        while written < buffer.count {
            let count = write(descriptor, buffer.baseAddress.map { $0 + written }, buffer.count - written)
            if count < 0 {
                if errno == EINTR { continue }
                return errno
            }
            written += count
        }
        return nil
    }
}
