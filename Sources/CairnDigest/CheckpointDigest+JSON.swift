import CairnBase
import CairnCheckpoint
import CairnTensor

extension CheckpointDigest {
    /// The digest as a JSON document of the schema `cairn-digest/1`, without a newline at the end.
    ///
    /// A leaf that JSON has no notation for is an object with one key, as in the files: `$f64` or `$bytes`.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument`` for a value that JSON cannot express.
    public func json() throws -> [UInt8] {
        var writer = JSONWriter(style: .pretty(maximumInlineWidth: 240))
        writer.beginObject()
        writer.key("schema")
        writer.write("cairn-digest/1")
        writer.key("format")
        writer.write(format)
        writer.key("tensors")
        writer.beginArray()
        for tensor in tensors {
            writer.beginObject()
            writer.key("fqn")
            writer.write(tensor.name)
            writer.key("dtype")
            writer.write(tensor.scalarType.rawValue)
            writer.key("shape")
            writer.beginArray()
            for extent in tensor.shape.extents { writer.write(extent) }
            writer.endArray()
            writer.key("sha256")
            writer.write(tensor.sha256)
            writer.endObject()
        }
        writer.endArray()
        writer.key("objects")
        writer.beginArray()
        for leaf in objects {
            writer.beginObject()
            writer.key("path")
            writer.beginArray()
            for component in leaf.path { try writer.write(ValueCoding.json(component)) }
            writer.endArray()
            writer.key("value")
            // An integer is an integer, whichever type held it.
            if case .unsigned(let value) = leaf.value {
                writer.write(value)
            } else {
                try writer.write(ValueCoding.json(leaf.value))
            }
            writer.endObject()
        }
        writer.endArray()
        writer.endObject()
        return writer.finish()
    }
}
