import CairnBase

/// The name of one of several files of a model: `model-00001-of-00003.safetensors`.
package struct SafeTensorsShardName {
    /// What ends a file's name.
    package static let fileExtension = ".safetensors"
    /// What ends the name of the file that says which shard holds what.
    package static let indexExtension = ".safetensors.index.json"

    /// What stands before the numbers.
    package var stem: String
    /// The shard's number, from 1.
    var number: Int
    /// How many shards there are.
    var count: Int

    init(stem: String, number: Int, count: Int) {
        self.stem = stem
        self.number = number
        self.count = count
    }

    /// The parts of a file's name, `nil` if it is not a shard's.
    package init?(_ name: String) {
        guard name.hasSuffix(Self.fileExtension) else { return nil }
        let parts = name.dropLast(Self.fileExtension.count).split(separator: "-", omittingEmptySubsequences: false)
        guard parts.count >= 4, parts[parts.count - 2] == "of", let count = Self.number(parts[parts.count - 1]),
            let number = Self.number(parts[parts.count - 3]), (1...count).contains(number)
        else { return nil }
        self.init(stem: parts.dropLast(3).joined(separator: "-"), number: number, count: count)
    }

    /// The file's name.
    var name: String {
        "\(stem)-\(Self.digits(number))-of-\(Self.digits(count))\(Self.fileExtension)"
    }

    /// The same name for another shard of the same model.
    func sibling(_ number: Int) -> SafeTensorsShardName {
        SafeTensorsShardName(stem: stem, number: number, count: count)
    }

    private static func number(_ text: Substring) -> Int? {
        guard (5...9).contains(text.utf8.count), text.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            let number = Int(text), number > 0
        else { return nil }
        return number
    }

    private static func digits(_ number: Int) -> String {
        let text = String(number)
        return String(repeating: "0", count: max(0, 5 - text.utf8.count)) + text
    }
}
