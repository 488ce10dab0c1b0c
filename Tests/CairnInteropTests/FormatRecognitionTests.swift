import CairnCheckpoint
import CairnInterop
import CairnStorage
import CairnTesting
import Testing

@Suite struct FormatRecognitionTests {
    /// A safetensors file begins with the length of its header, whose bytes may be those of a pickle.
    @Test func aHeadersLengthIsNoPickle() throws {
        let formats: CheckpointFormats = [.safetensors, .torch, .dcp, .deepspeed, .numpy]
        let directory = try TemporaryDirectory()
        let storage = LocalStorage(root: directory.path)
        // Protocols 2 to 5 of a pickle, then every first byte.
        for length in [0x0280, 0x0380, 0x0480, 0x0580] + (0x100...0x1FF) {
            let text = #"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#
            let header = Array(text.utf8) + [UInt8](repeating: UInt8(ascii: " "), count: length - text.utf8.count)
            let bytes = (0..<8).map { UInt8(truncatingIfNeeded: length >> (8 * $0)) } + header + [7]
            for name in ["a.safetensors", "a.bin"] {
                try storage.publish(bytes, as: name)
                let path = directory.path(name)
                #expect(try formats.recognise(path)?.format.name == "safetensors", "a header of \(length) bytes")
                #expect(try formats.open(path).tensors.map(\.name) == ["a"])
            }
        }
    }
}
