import CZMQ
package import CairnBase
import CairnStorage

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// The two keys by which a member is known: the public one is in the group file, the secret one in a file of the member's own.
package struct CurveKey: Sendable {
    /// 40 characters each.
    package let publicText: String
    package let secretText: String

    /// Whether the system's libzmq can authenticate and encrypt.
    package static func require() throws(CairnError) {
        guard zmq_has("curve") == 1 else {
            throw CairnError(
                .unsupported, "this libzmq has no CURVE, and a group without encryption is not offered",
                .init(expected: "libzmq with libsodium", advice: "install Debian's libzmq5, or one built with libsodium"))
        }
    }

    /// A new pair of keys.
    package init() throws(CairnError) {
        try Self.require()
        var publicBytes = [CChar](repeating: 0, count: 41)
        var secretBytes = [CChar](repeating: 0, count: 41)
        guard zmq_curve_keypair(&publicBytes, &secretBytes) == 0 else {
            throw CairnError(.unsupported, "no keys could be made")
        }
        publicText = Self.text(publicBytes)
        secretText = Self.text(secretBytes)
    }

    /// Reads a key file, which nobody else may be able to read.
    package init(path: String) throws(CairnError) {
        try Self.require()
        var status = stat()
        guard stat(path, &status) == 0 else { throw SystemCallError(errno, "stat").explained("look at", path) }
        guard status.st_mode & 0o077 == 0 else {
            throw CairnError(
                .accessDenied, "others may read the secret key",
                .init(file: path, expected: "mode 0600", found: "mode 0" + String(status.st_mode & 0o777, radix: 8)))
        }
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw SystemCallError(errno, "open").explained("open", path) }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 256)
        let count = read(descriptor, &bytes, bytes.count)
        let text = String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
        let lines = text.split(separator: "\n").filter { !$0.hasPrefix("#") }
        var publicBytes = [CChar](repeating: 0, count: 41)
        guard let secret = lines.first.map(String.init), secret.utf8.count == 40,
            zmq_curve_public(&publicBytes, secret) == 0
        else {
            throw CairnError(
                .malformed, "the file has no secret key", .init(file: path, advice: "`cairn keep key -o FILE` makes one"))
        }
        publicText = Self.text(publicBytes)
        secretText = secret
    }

    /// Writes a new key file that only its owner can read.
    package func save(to path: String) throws(CairnError) {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw SystemCallError(errno, "open").explained("make", path) }
        defer { close(descriptor) }
        let bytes = Array("# The secret key of a keeper of a group. Its public key is \(publicText)\n\(secretText)\n".utf8)
        guard write(descriptor, bytes, bytes.count) == bytes.count, fsync(descriptor) == 0 else {
            throw SystemCallError(errno, "write").explained("write", path)
        }
    }

    static func isPossible(_ text: String) -> Bool {
        var bytes = [UInt8](repeating: 0, count: 32)
        return zmq_z85_decode(&bytes, text) != nil
    }

    static func text(_ characters: [CChar]) -> String {
        String(decoding: characters.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// The form in which libzmq tells the key of who connects.
    static func text(ofBytes bytes: [UInt8]) -> String? {
        guard bytes.count == 32 else { return nil }
        var text = [CChar](repeating: 0, count: 41)
        guard zmq_z85_encode(&text, bytes, 32) != nil else { return nil }
        return Self.text(text)
    }
}
