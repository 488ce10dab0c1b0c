import CairnBase
import CairnCheckpoint
import CairnStorage

/// The name of a parity file, and by it those of the others of its set.
///
/// In the folder of a step it is `parity-00-8c1f3e0d5a7b9246.safetensors`, beside other files `model.pt.cairn-parity-00`: no
/// pattern for checkpoints fits that.
struct ParityName: Sendable, Hashable {
    /// What tells the set from others in the folder.
    enum Stem: Sendable, Hashable {
        case ofSave(digits: String)
        case beside(String)
    }

    private static let mark = ".cairn-parity-"

    let stem: Stem
    let number: Int

    init(_ stem: Stem, number: Int) {
        self.stem = stem
        self.number = number
    }

    /// - Returns: `nil` for a name of another form.
    init?(_ name: String) {
        if let found = ParityFileName.parse(name) {
            self.init(.ofSave(digits: found.saveDigits), number: found.number)
            return
        }
        let mark = Array(Self.mark.utf8)
        let bytes = Array(name.utf8)
        guard let last = name.lastIndex(of: "-"), let number = Int(name[name.index(after: last)...]), (0..<255).contains(number)
        else { return nil }
        let stem = String(name[...last])
        guard bytes.count > mark.count, stem.hasSuffix(Self.mark) else { return nil }
        let base = String(stem.dropLast(Self.mark.count))
        self.init(.beside(base), number: number)
        guard !base.isEmpty, !base.utf8.contains(UInt8(ascii: "/")), text == name else { return nil }
    }

    var text: String {
        switch stem {
        case .ofSave(let digits): ParityFileName.make(number: number, saveDigits: digits)
        case .beside(let base): base + Self.mark + (number < 10 ? "0" : "") + "\(number)"
        }
    }
}
