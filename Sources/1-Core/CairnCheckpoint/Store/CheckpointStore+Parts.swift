public import CairnBase
import CairnStorage

/// Parts of a run's state that are saved for themselves: an expert, a stage, an adapter, each at its own steps.
///
/// A part is a store of its own in the store's folder `parts`, with its own steps, retention and history. So processes that train
/// parts save them without asking each other, as decentralised mixtures of experts do (Ryabinin and Gusev, "Towards
/// Crowdsourced Training of Large Neural Networks using Decentralized Mixture-of-Experts", 2020).
extension CheckpointStore {
    private static let folder = "parts/"

    /// The store of a part; it is made by the first save.
    ///
    /// ```swift
    /// try store.part("experts.7").save(expert, step: 130)
    /// ```
    ///
    /// - Parameter name: Letters, digits, dots, hyphens and underscores, at most 128, not beginning with a dot.
    /// - Throws: ``CairnError/Code/invalidArgument`` for another name.
    public func part(_ name: String) throws(CairnError) -> CheckpointStore {
        guard Self.isPartName(name) else {
            throw CairnError(
                .invalidArgument, "this cannot be the name of a part",
                .init(
                    file: self.name, expected: "up to 128 letters, digits, dots, hyphens and underscores",
                    found: name.debugDescription))
        }
        return CheckpointStore(
            storage: PrefixedStorage(storage, prefix: Self.folder + name + "/"), name: "\(self.name)/\(Self.folder)\(name)")
    }

    /// The names of the parts that have files, sorted.
    public func partNames() throws(CairnError) -> [String] {
        var names = Set<String>()
        for entry in try storage.list(Self.folder) {
            let name = String(entry.key.dropFirst(Self.folder.count).prefix { $0 != "/" })
            if Self.isPartName(name) { names.insert(name) }
        }
        return names.sorted { ExactString($0) < ExactString($1) }
    }

    /// The newest usable checkpoint of the whole, if there is one, and of each part that was saved after it: what a restart of
    /// everything begins from.
    ///
    /// - Returns: The readers; the whole one first. Empty when nothing was saved.
    /// - Throws: ``CairnError/Code/nothingUsable`` for a part of which no checkpoint can be used.
    public func newestParts() throws(CairnError) -> [CairnReader] {
        var readers: [CairnReader] = []
        var time = -Double.infinity
        let (newest, skipped) = try newestUsable()
        if let newest {
            let whole = try open(step: newest)
            time = whole.manifest.time
            readers.append(whole)
        } else if !skipped.isEmpty {
            throw noneUsable(skipped)
        }
        for name in try partNames() {
            let part = try part(name)
            let (newest, skipped) = try part.newestUsable()
            guard let newest else {
                // Nothing of it has been finished yet.
                if skipped.isEmpty { continue }
                throw part.noneUsable(skipped)
            }
            let reader = try part.open(step: newest)
            if reader.manifest.time >= time { readers.append(reader) }
        }
        return readers
    }

    private static func isPartName(_ name: String) -> Bool {
        (1...128).contains(name.utf8.count) && name.utf8.first != UInt8(ascii: ".")
            && name.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "-"), UInt8(ascii: "_"):
                    true
                default: false
                }
            }
    }
}
