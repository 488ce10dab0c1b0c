import CHDF5
import CHDF5Calls
import CairnBase
import CairnCheckpoint
import CairnInterop
import CairnStorage
import CairnTensor

/// What an HDF5 file holds: the datasets of numbers as tensors, attributes and everything else that is small as values.
///
/// Groups are walked in the order of their names, each once, under the first path that leads to it. A dataset that
/// several links lead to is a tensor under the first and tied to it under the others. What cannot be read is left out,
/// object by object, and the rest is there.
struct HDF5Contents {
    private(set) var tensors: [(name: String, content: any TensorView, tiedTo: String?)] = []
    private(set) var values: [(path: [StateKey], value: Value)] = []
    private(set) var skippedEntries: [String] = []
    /// What of the skippedEntries is damage.
    private(set) var damages: [CairnError] = []

    private let file: HDF5File
    private let cache = ChunkCache()
    private var groups: Set<UInt64> = []
    private var datasets: [UInt64: String] = [:]
    /// Where the tensors of datasets are.
    private var positions: [ExactString: Int] = [:]
    /// Whether the root says that Keras wrote the file.
    private var isOfKeras = false

    private static let greatestDepth = 1024

    /// - Throws: ``CairnError/Code/malformed`` when the root is damaged.
    init(_ file: HDF5File) throws(CairnError) {
        self.file = file
        var soft: [String] = []
        try HDF5Library.run { () throws(CairnError) in try walk(softLinks: &soft) }
        try HDF5Library.run { () throws(CairnError) in
            for path in soft { try follow(path) }
        }
    }

    private mutating func walk(softLinks: inout [String]) throws(CairnError) {
        var pending = [""]
        while let path = pending.popLast() {
            do throws(CairnError) {
                pending += try object(path, softLinks: &softLinks).reversed()
            } catch {
                let blamed = file.blame(error)
                // Nothing is left of a file without its root.
                guard !path.isEmpty else { throw blamed }
                try leaveOut(path, blamed)
            }
        }
    }

    /// Takes what a link leads to, and returns the links of a group.
    private mutating func object(_ path: String, softLinks: inout [String]) throws(CairnError) -> [String] {
        var kind = cairn_h5_other_object
        var address: UInt64 = 0
        guard cairn_h5_object(file.id, path.isEmpty ? "/" : path, &kind, &address) >= 0 else {
            throw HDF5Library.failure("find what a link leads to")
        }
        switch kind {
        case cairn_h5_group:
            guard groups.insert(address).inserted else {
                skippedEntries.append("\(path) is a group that has another name too; what it holds is listed under that")
                return []
            }
            return try group(path, at: address, softLinks: &softLinks)
        case cairn_h5_dataset:
            if let first = datasets[address] {
                tie(path, to: first)
            } else {
                datasets[address] = path
                try add(dataset: path, at: address)
            }
        // Types with names of their own are found through the datasets that use them.
        case cairn_h5_named_type: break
        default: skippedEntries.append("\(path) is an object of an unknown kind and left out")
        }
        return []
    }

    /// Notes that something is left out, unless it is not what is in the file that kept it from being read.
    private mutating func leaveOut(_ what: String, _ error: CairnError) throws(CairnError) {
        guard error.isOfContent else { throw error }
        var located = error
        if error.code.isDamage {
            located.context.tensor = located.context.tensor ?? what
            damages.append(located)
        }
        var reason = error.message
        if let expected = error.context.expected { reason += ", expected \(expected)" }
        if let found = error.context.found { reason += ", found \(found)" }
        skippedEntries.append("\(what) is left out\(error.code.isDamage ? ", it is damaged" : ""): \(reason)")
    }

    /// Takes a group's attributes and returns the paths of its hard links, sorted.
    private mutating func group(
        _ path: String, at address: UInt64, softLinks: inout [String]
    ) throws(CairnError) -> [String] {
        let group = try HDF5Handle(
            H5Gopen2(file.id, path.isEmpty ? "/" : path, defaultProperties), closing: H5Gclose, "open a group")
        let (links, oddNames) = try LinkList.links(of: group.id)
        for name in oddNames {
            skippedEntries.append("\(Self.shown(path, name)) is left out: its name is empty or no UTF-8")
        }
        guard path.utf8.count(where: { $0 == UInt8(ascii: "/") }) < Self.greatestDepth else {
            skippedEntries.append(
                "what is in \(path.prefix(64))… is left out: more than \(Self.greatestDepth) groups in each other")
            return []
        }
        let attributes = try self.attributes(at: address, path)
        if path.isEmpty { isOfKeras = attributes.contains { $0.name == "keras_version" } }
        var names = Set(links.map { ExactString($0.name) })
        for attribute in attributes {
            var key = attribute.name
            while names.contains(ExactString(key)) { key = "@" + key }
            names.insert(ExactString(key))
            try add(attribute, at: Self.keys(path) + [StateKey(spelling: key)], path)
        }
        var paths: [String] = []
        for link in links.sorted(by: { ExactString($0.name) < ExactString($1.name) }) {
            let target = path.isEmpty ? link.name : path + "/" + link.name
            switch link.kind {
            case cairn_h5_hard: paths.append(target)
            case cairn_h5_soft: softLinks.append(target)
            case cairn_h5_external: skippedEntries.append("\(target) is a link into another file, which is not opened")
            default: skippedEntries.append("\(target) is a link of an unknown kind and left out")
            }
        }
        return paths
    }

    /// A soft link to a dataset that was found is another name of it.
    private mutating func follow(_ path: String) throws(CairnError) {
        var kind = cairn_h5_other_object
        var address: UInt64 = 0
        guard cairn_h5_object(file.id, path, &kind, &address) >= 0 else {
            let error = file.blame(HDF5Library.failure("find what a link leads to"))
            guard error.isOfContent else { throw error }
            skippedEntries.append("\(path) is a link to nothing in this file")
            return
        }
        switch kind {
        case cairn_h5_dataset:
            if let first = datasets[address] {
                tie(path, to: first)
            } else {
                skippedEntries.append("\(path) is a link to what is not in this file")
            }
        case cairn_h5_group:
            skippedEntries.append("\(path) is a link to a group; what that holds is listed under its own name")
        default: break
        }
    }

    private mutating func tie(_ path: String, to first: String) {
        guard let position = positions[ExactString(first)] else {
            skippedEntries.append("\(path) is \(first) under another name")
            return
        }
        tensors.append((path, tensors[position].content, first))
    }

    // MARK: Datasets

    private mutating func add(dataset path: String, at address: UInt64) throws(CairnError) {
        let messages = try messages(at: address)
        var attributes = try self.attributes(messages, path)
        var keys = Self.keys(path)
        let stored: StoredDataset
        do throws(CairnError) {
            stored = try StoredDataset(
                path, of: file, header: messages, attributes: attributes, isOfKeras: isOfKeras, cache: cache)
        } catch {
            try leaveOut(path, file.blame(error))
            stored = .skipped("")
        }
        switch stored {
        case .tensor(let dataset):
            positions[ExactString(path)] = tensors.count
            tensors.append((path, try dataset.content(cache), nil))
            if let note = dataset.note { skippedEntries.append("\(path) \(note)") }
            attributes.removeAll { dataset.typeAttributes.contains($0.name) }
        case .columns(let columns, let reasons):
            for column in columns { tensors.append((path + "/" + column.name, column.content, nil)) }
            skippedEntries += reasons.map { "\(path) is left out in part: \($0)" }
        case .value(let value):
            values.append((keys, value))
            // A value has no place for others under it.
            let last = keys.removeLast().text
            for attribute in attributes {
                try add(attribute, at: keys + [StateKey(last + "@" + attribute.name)], path)
            }
            return
        case .skipped(let reason): if !reason.isEmpty { skippedEntries.append("\(path) is left out: \(reason)") }
        }
        for attribute in attributes { try add(attribute, at: keys + [StateKey(spelling: attribute.name)], path) }
    }

    private mutating func add(
        _ attribute: StoredAttribute, at keys: [StateKey], _ path: String
    ) throws(CairnError) {
        do throws(CairnError) {
            switch try HDF5Value.of(attribute, in: file) {
            case .success(let value): values.append((keys, value))
            case .failure(let refusal):
                skippedEntries.append("the attribute \(attribute.name) of /\(path) is left out: it holds \(refusal.reason)")
            }
        } catch {
            try leaveOut("the attribute \(attribute.name) of /\(path)", error)
        }
    }

    private func messages(at address: UInt64) throws(CairnError) -> [HeaderMessage] {
        guard let location = Int(exactly: address) else {
            throw CairnError(.malformed, "an object lies outside of the file")
        }
        return try file.headers.messages(of: location)
    }

    private mutating func attributes(at address: UInt64, _ path: String) throws(CairnError) -> [StoredAttribute] {
        try attributes(messages(at: address), path)
    }

    /// The attributes of an object, sorted by name; those that are damaged are left out.
    private mutating func attributes(
        _ messages: [HeaderMessage], _ path: String
    ) throws(CairnError) -> [StoredAttribute] {
        let (attributes, failures) = try file.headers.attributes(messages)
        for failure in failures { try leaveOut("an attribute of /\(path)", failure) }
        return attributes
    }

    private static func shown(_ path: String, _ name: String) -> String { path.isEmpty ? name : path + "/" + name }

    private static func keys(_ path: String) -> [StateKey] {
        path.split(separator: "/").map { StateKey(spelling: String($0)) }
    }
}

/// The links of a group, which HDF5 gives one by one.
private final class LinkList {
    private var links: [(name: String, kind: cairn_h5_link_kind)] = []
    /// Names that cannot be those of tensors, as far as they can be shown.
    private var oddNames: [String] = []

    static func links(
        of group: hid_t
    ) throws(CairnError) -> (links: [(name: String, kind: cairn_h5_link_kind)], oddNames: [String]) {
        let list = LinkList()
        let status = withExtendedLifetime(list) {
            cairn_h5_links(
                group,
                { context, name, kind in
                    guard let context, let name else { return -1 }
                    let list = Unmanaged<LinkList>.fromOpaque(context).takeUnretainedValue()
                    if let name = String(validatingCString: name), !name.isEmpty {
                        list.links.append((name, kind))
                    } else {
                        list.oddNames.append(String(cString: name))
                    }
                    return 0
                }, Unmanaged.passUnretained(list).toOpaque())
        }
        guard status >= 0 else { throw HDF5Library.failure("list a group") }
        return (list.links, list.oddNames)
    }
}
