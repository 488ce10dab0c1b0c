package import CairnBase
import COpenSSL

/// SHA-256 of bytes that come in pieces, by OpenSSL's libcrypto, which uses the processor's instructions for it.
package struct SHA256: ~Copyable {
    private let context: OpaquePointer

    /// Begins with no bytes.
    ///
    /// - Throws: ``CairnError/Code/unsupported`` when the library refuses, for instance because of a policy.
    package init() throws(CairnError) {
        guard let context = EVP_MD_CTX_new() else { throw Self.refusal }
        guard EVP_DigestInit_ex(context, EVP_sha256(), nil) == 1 else {
            EVP_MD_CTX_free(context)
            throw Self.refusal
        }
        self.context = context
    }

    deinit { EVP_MD_CTX_free(context) }

    /// Adds the next bytes.
    package mutating func update(_ bytes: RawSpan) throws(CairnError) {
        let result = bytes.withUnsafeBytes { EVP_DigestUpdate(context, $0.baseAddress, $0.count) }
        guard result == 1 else { throw Self.refusal }
    }

    /// The digest of all bytes: 32 bytes.
    package consuming func finish() throws(CairnError) -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: 32)
        guard EVP_DigestFinal_ex(context, &digest, nil) == 1 else { throw Self.refusal }
        return digest
    }

    /// The digest of bytes that are there at once.
    package static func digest(of bytes: RawSpan) throws(CairnError) -> [UInt8] {
        var hash = try SHA256()
        try hash.update(bytes)
        return try hash.finish()
    }

    private static var refusal: CairnError {
        CairnError(.unsupported, "the system's OpenSSL does not compute SHA-256")
    }
}
