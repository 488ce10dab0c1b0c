import Cairn
import CairnBase

/// Prints the one JSON document of a command with `--json`, its schema in front.
func printDocument(_ schema: String, _ object: JSONObject) throws(CairnError) {
    var document: JSONObject = ["schema": .string(schema)]
    for member in object.members { document[member.key] = member.value }
    var writer = JSONWriter(style: .pretty(maximumInlineWidth: 110))
    do throws(JSONError) {
        try writer.write(.object(document))
    } catch {
        throw CairnError(.unsupported, "the result cannot be written as JSON", cause: error)
    }
    say(String(decoding: writer.finish(), as: UTF8.self))
}
