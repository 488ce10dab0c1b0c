public import CairnBase

/// What a model's `config.json` says that its tensors do not: which network it is, how many heads share its projections,
/// and in which codes weights are stored.
///
/// Members that are absent or `null` are `nil`; nothing is filled in from a library's defaults.
public struct ModelConfiguration: Sendable, Hashable {
    /// The name of the file that models of the Transformers library keep it in.
    package static let fileName = "config.json"

    /// Where it was read from, for messages.
    package var file: String
    /// The network, as the Transformers library calls it: `llama`, `gemma2`.
    package var modelType: String?
    package var hiddenSize: Int?
    /// Heads of queries.
    package var headCount: Int?
    /// Heads of keys and of values.
    package var keyHeadCount: Int?
    /// Elements of a head.
    package var headWidth: Int?
    /// How weights are stored in fewer bits, if the file says that they are.
    package var quantisation: Quantisation?

    /// The member `quantization_config`.
    package struct Quantisation: Sendable, Hashable {
        /// The library or layout: `gptq`, `fp8`, `compressed-tensors`.
        package var method: String
        /// The method's own name of the layout: `nvfp4-pack-quantized`, `gptq_v2`.
        package var format: String?
        package var bits: Int?
    }

    /// Reads the text of a `config.json`.
    ///
    /// - Throws: ``CairnError/Code/malformed`` for what is not a JSON object, or an invalid number.
    public init(json bytes: [UInt8], file: String) throws(CairnError) {
        self.file = file
        do throws(JSONError) {
            let document = try JSONValue(parsing: bytes).asObject()
            modelType = try Self.text("model_type", document)
            hiddenSize = try Self.number("hidden_size", document)
            headCount = try Self.number("num_attention_heads", document)
            keyHeadCount = try Self.number("num_key_value_heads", document)
            headWidth = try Self.number("head_dim", document)
            for name in ["quantization_config", "compression_config"] where quantisation == nil {
                if case .object(let object)? = document[name] { quantisation = try Self.quantisation(object) }
            }
        } catch {
            throw error.cairnError(file: file)
        }
    }

    private static func quantisation(_ object: JSONObject) throws(JSONError) -> Quantisation {
        // bitsandbytes did not name itself at first.
        let named = try text("quant_method", object)
        let isBitsAndBytes = object["load_in_4bit"] != nil || object["load_in_8bit"] != nil
        var formats = ["format", "checkpoint_format", "quant_algo", "fmt"]
        if object["load_in_4bit"] == .bool(true) { formats.append("bnb_4bit_quant_type") }
        var format: String?
        for name in formats where format == nil { if case .string(let text)? = object[name] { format = text } }
        var bits: Int?
        if case .integer(let number)? = object["bits"] { bits = Int(exactly: number) }
        return Quantisation(
            method: named ?? (isBitsAndBytes ? "bitsandbytes" : "unnamed"), format: format, bits: bits)
    }

    private static func text(_ name: String, _ object: JSONObject) throws(JSONError) -> String? {
        guard let value = object[name], value != .null else { return nil }
        return try object.string(name)
    }

    private static func number(_ name: String, _ object: JSONObject) throws(JSONError) -> Int? {
        guard let value = object[name], value != .null else { return nil }
        return try object.integer(name)
    }
}
