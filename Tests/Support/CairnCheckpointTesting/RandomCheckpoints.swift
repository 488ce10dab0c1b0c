import CairnBase
import CairnCheckpoint
package import CairnTensor
package import CairnTesting

extension Tensor {
    /// A tensor of random bytes.
    package static func random(
        _ type: ScalarType, _ shape: Shape, bytes range: ClosedRange<UInt8> = 0...255, using generator: inout SeededGenerator
    ) throws -> Tensor {
        let byteCount = try Tensor.byteCount(type, shape)
        let bytes = (0..<byteCount).map { _ in UInt8.random(in: range, using: &generator) }
        return try Tensor(type, shape, copying: bytes.span.bytes)
    }
}

extension MemoryCheckpoint {
    /// Tensors of random types, shapes, names and bytes, some values, and a tie.
    package static func random(_ count: Int, using generator: inout SeededGenerator) throws -> MemoryCheckpoint {
        var checkpoint = MemoryCheckpoint()
        let names = ["", "a", "é", "e\u{301}", "🚀/x", "quote\"\\", "nul\u{0}", "line\n", " "]
        for index in 0..<count {
            let type = ScalarType.allCases.filter(\.isSafetensorsType).randomElement(using: &generator) ?? .f32
            var extents = (0..<Int.random(in: 0...4, using: &generator)).map { _ in
                Int.random(in: 0...5, using: &generator)
            }
            if type.isPacked { extents.append(8) }
            checkpoint.add(
                (index < names.count ? names[index] : "model.\(index)"),
                try .random(type, Shape(extents), using: &generator))
        }
        if let first = checkpoint.tensors.first {
            checkpoint.add("tied", try checkpoint.tensor(first.name), tiedTo: first.name)
        }
        checkpoint.values = [
            NamedValue(name: "step", value: .integer(.max)),
            NamedValue(
                name: "zoo",
                value: [
                    "nan": .double(Double(bitPattern: 0x7ff8_0000_0000_0001)), "list": [1, 2.5, "x", .null, true],
                    "bytes": .bytes([0, 255]), "unsigned": .unsigned(.max), "$": [:],
                ]),
        ]
        return checkpoint
    }
}
