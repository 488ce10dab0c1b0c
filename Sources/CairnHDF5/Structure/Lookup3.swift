/// The checksum of HDF5's metadata: Bob Jenkins's lookup3, `hashlittle` with the initial value 0.
enum Lookup3 {
    static func checksum(_ bytes: some Collection<UInt8>) -> UInt32 {
        let bytes = Array(bytes)
        var a = 0xDEAD_BEEF &+ UInt32(truncatingIfNeeded: bytes.count)
        var (b, c) = (a, a)
        func word(_ position: Int) -> UInt32 {
            var word: UInt32 = 0
            for byte in (0..<4).reversed() where position + byte < bytes.count {
                word = word << 8 | UInt32(bytes[position + byte])
            }
            return word
        }
        func rotated(_ value: UInt32, _ count: UInt32) -> UInt32 { value << count | value >> (32 - count) }
        var position = 0
        while bytes.count - position > 12 {
            a = a &+ word(position)
            b = b &+ word(position + 4)
            c = c &+ word(position + 8)
            a = (a &- c) ^ rotated(c, 4)
            c = c &+ b
            b = (b &- a) ^ rotated(a, 6)
            a = a &+ c
            c = (c &- b) ^ rotated(b, 8)
            b = b &+ a
            a = (a &- c) ^ rotated(c, 16)
            c = c &+ b
            b = (b &- a) ^ rotated(a, 19)
            a = a &+ c
            c = (c &- b) ^ rotated(b, 4)
            b = b &+ a
            position += 12
        }
        guard position < bytes.count else { return c }
        a = a &+ word(position)
        b = b &+ word(position + 4)
        c = c &+ word(position + 8)
        c = (c ^ b) &- rotated(b, 14)
        a = (a ^ c) &- rotated(c, 11)
        b = (b ^ a) &- rotated(a, 25)
        c = (c ^ b) &- rotated(b, 16)
        a = (a ^ c) &- rotated(c, 4)
        b = (b ^ a) &- rotated(a, 14)
        c = (c ^ b) &- rotated(b, 24)
        return c
    }
}
