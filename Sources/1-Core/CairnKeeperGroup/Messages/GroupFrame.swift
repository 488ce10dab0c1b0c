package import CairnBase

/// A message as it goes over the network: with the group's number, the number of the request, and a checksum of it all.
package struct GroupFrame: Sendable, Hashable {
    package static let version: UInt8 = 1
    /// No frame is longer: a portion of bytes, and what is around it.
    package static let greatestByteCount = GroupMessage.greatestPortion + 4096
    private static let magic: [UInt8] = Array("CRNG".utf8)
    private static let headByteCount = 25

    package var group: UInt64
    /// Answers have the number of their request.
    package var number: UInt64
    package var message: GroupMessage

    package init(group: UInt64, number: UInt64, message: GroupMessage) {
        self.group = group
        self.number = number
        self.message = message
    }

    /// - Throws: ``CairnError/Code/unsupported`` for a message that is longer than a frame.
    package var encoded: [UInt8] {
        get throws(CairnError) {
            let body = message.encoded
            guard body.count <= Self.greatestByteCount - Self.headByteCount else {
                throw CairnError(.unsupported, "the message is longer than a frame", .init(found: "\(body.count) bytes"))
            }
            var bytes = Self.magic
            bytes.append(Self.version)
            bytes.append(littleEndian: group)
            bytes.append(littleEndian: number)
            var checksum = CRC32C.checksum(bytes.span.bytes)
            checksum = CRC32C.checksum(body.span.bytes, continuing: checksum)
            bytes.append(littleEndian: checksum)
            return bytes + body
        }
    }

    /// - Parameter group: The group whose frames are understood.
    /// - Throws: ``CairnError/Code/malformed``, ``CairnError/Code/corrupted``, ``CairnError/Code/unsupported`` for another
    ///   version, ``CairnError/Code/mismatch`` for another group.
    package init(parsing bytes: [UInt8], of group: UInt64) throws(CairnError) {
        guard bytes.count > Self.headByteCount, bytes.count <= Self.greatestByteCount, bytes.starts(with: Self.magic) else {
            throw GroupReader.malformed("is no frame")
        }
        guard bytes[4] == Self.version else {
            throw CairnError(
                .unsupported, "a keeper of the group is of another version",
                .init(expected: "version \(Self.version)", found: "version \(bytes[4])"))
        }
        let whole = bytes.span.bytes
        var checksum = CRC32C.checksum(whole.extracting(0..<21))
        checksum = CRC32C.checksum(whole.extracting(Self.headByteCount..<bytes.count), continuing: checksum)
        guard checksum == bytes.littleEndian(UInt32.self, at: 21) else {
            throw CairnError(.corrupted, "a message of another keeper has other bytes than were sent")
        }
        guard bytes.littleEndian(UInt64.self, at: 5) == group else {
            throw CairnError(
                .mismatch, "a keeper speaks for another group", .init(advice: "give all members the same group file"))
        }
        self.group = group
        number = bytes.littleEndian(UInt64.self, at: 13)
        message = try GroupMessage(parsing: bytes[Self.headByteCount...])
    }
}
