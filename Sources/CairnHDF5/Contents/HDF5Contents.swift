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
/// several links lead to is a tensor under the first and tied to it under the others.
struct HDF5Contents {
    private(set) var tensors: [(name: String, content: any TensorContent, tiedTo: String?)] = []
    private(set) var values: [(path: [StateKey], value: Value)] = []
    private(set) var omissions: [String] = []

    private let file: HDF5File
    private let cache = ChunkCache()
    private var groups: Set<UInt64> = []
    private var datasets: [UInt64: String] = [:]
    /// Where the tensors of datasets are.
    private var positions: [ExactString: Int] = [:]
    /// Whether the root says that Keras wrote the file.
    private var isOfKeras = false

    private static let greatestDepth = 128

    /// - Throws: ``CairnError/Code/malformed`` when something is damaged, ``CairnError/Code/unsupported`` for groups
    ///   nested too deeply.
    init(_ file: HDF5File) throws(CairnError) {
        self.file = file
        var soft: [String] = []
        do throws(CairnError) {
            try HDF5Library.run { () throws(CairnError) in try walk(softLinks: &soft) }
            try HDF5Library.run { () throws(CairnError) in
                for path in soft { try follow(path) }
            }
        } catch {
            throw file.blame(error)
        }
    }

    private mutating func walk(softLinks: inout [String]) throws(CairnError) {
        var pending = [""]
        while let path = pending.popLast() {
            var kind = cairn_h5_other_object
            var address: UInt64 = 0
            guard cairn_h5_object(file.id, path.isEmpty ? "/" : path, &kind, &address) >= 0 else {
                throw HDF5Library.failure("find what a link leads to", .init(tensor: path))
            }
            switch kind {
            case cairn_h5_group:
                guard groups.insert(address).inserted else {
                    omissions.append("\(path) is a group that has another name too; what it holds is listed under that")
                    continue
                }
                pending += try group(path, at: address, softLinks: &softLinks).reversed()
            case cairn_h5_dataset:
                if let first = datasets[address] {
                    tie(path, to: first)
                } else {
                    datasets[address] = path
                    try add(dataset: path, at: address)
                }
            // Types with names of their own are found through the datasets that use them.
            case cairn_h5_named_type: break
            default: omissions.append("\(path) is an object of an unknown kind and left out")
            }
        }
    }

    /// Takes a group's attributes and returns the paths of its hard links, sorted.
    private mutating func group(
        _ path: String, at address: UInt64, softLinks: inout [String]
    ) throws(CairnError) -> [String] {
        let group = try HDF5Handle(
            H5Gopen2(file.id, path.isEmpty ? "/" : path, defaultProperties), closing: H5Gclose, "open a group")
        let links = try NameList.links(of: group.id)
        guard path.utf8.count(where: { $0 == UInt8(ascii: "/") }) < Self.greatestDepth else {
            throw CairnError(
                .unsupported, "groups are nested too deeply",
                .init(tensor: String(path.prefix(64)), expected: "at most \(Self.greatestDepth) levels"))
        }
        let attributes = try self.attributes(of: group.id, at: address)
        if path.isEmpty { isOfKeras = attributes.contains("keras_version") }
        let names = Set(links.map { ExactString($0.name) })
        for name in attributes {
            let key = names.contains(ExactString(name)) ? "@" + name : name
            try add(attribute: name, of: group.id, at: Self.keys(path) + [StateKey(spelling: key)], path)
        }
        var paths: [String] = []
        for link in links.sorted(by: { ExactString($0.name) < ExactString($1.name) }) {
            let target = path.isEmpty ? link.name : path + "/" + link.name
            switch link.kind {
            case cairn_h5_hard: paths.append(target)
            case cairn_h5_soft: softLinks.append(target)
            case cairn_h5_external: omissions.append("\(target) is a link into another file, which is not opened")
            default: omissions.append("\(target) is a link of an unknown kind and left out")
            }
        }
        return paths
    }

    /// A soft link to a dataset that was found is another name of it.
    private mutating func follow(_ path: String) throws(CairnError) {
        var kind = cairn_h5_other_object
        var address: UInt64 = 0
        guard cairn_h5_object(file.id, path, &kind, &address) >= 0 else {
            omissions.append("\(path) is a link to nothing in this file")
            return
        }
        switch kind {
        case cairn_h5_dataset:
            if let first = datasets[address] {
                tie(path, to: first)
            } else {
                omissions.append("\(path) is a link to what is not in this file")
            }
        case cairn_h5_group:
            omissions.append("\(path) is a link to a group; what that holds is listed under its own name")
        default: break
        }
    }

    private mutating func tie(_ path: String, to first: String) {
        guard let position = positions[ExactString(first)] else {
            omissions.append("\(path) is \(first) under another name")
            return
        }
        tensors.append((path, tensors[position].content, first))
    }

    // MARK: Datasets

    private mutating func add(dataset path: String, at address: UInt64) throws(CairnError) {
        do throws(CairnError) {
            let id = try HDF5Handle(H5Dopen2(file.id, path, defaultProperties), closing: H5Dclose, "open a dataset")
            var attributes = try self.attributes(of: id.id, at: address)
            var keys = Self.keys(path)
            let stored = try StoredDataset(
                id.id, path, at: address, of: file, attributes: attributes, isOfKeras: isOfKeras)
            switch stored {
            case .tensor(let dataset):
                positions[ExactString(path)] = tensors.count
                tensors.append((path, try dataset.content(cache), nil))
                if let note = dataset.note { omissions.append("\(path) \(note)") }
                attributes.removeAll { dataset.typeAttributes.contains($0) }
            case .value(let value):
                values.append((keys, value))
                // A value has no place for others under it.
                let last = keys.removeLast().text
                for name in attributes {
                    try add(attribute: name, of: id.id, at: keys + [StateKey(last + "@" + name)], path)
                }
                return
            case .omitted(let reason): omissions.append("\(path) is left out: \(reason)")
            }
            for name in attributes { try add(attribute: name, of: id.id, at: keys + [StateKey(spelling: name)], path) }
        } catch {
            throw error.adding(.init(tensor: path))
        }
    }

    private mutating func add(
        attribute name: String, of object: hid_t, at keys: [StateKey], _ path: String
    ) throws(CairnError) {
        switch try HDF5Value.attribute(name, of: object, in: file) {
        case .success(let value): values.append((keys, value))
        case .failure(let refusal):
            omissions.append("the attribute \(name) of /\(path) is left out: \(refusal.reason)")
        }
    }

    /// The names of an object's attributes, sorted.
    private func attributes(of object: hid_t, at address: UInt64) throws(CairnError) -> [String] {
        guard let names = try file.attributeNames(of: address) else { return try NameList.attributes(of: object) }
        return names.sorted { ExactString($0) < ExactString($1) }
    }

    private static func keys(_ path: String) -> [StateKey] {
        path.split(separator: "/").map { StateKey(spelling: String($0)) }
    }
}

/// Names that HDF5 gives one by one.
private final class NameList {
    var links: [(name: String, kind: cairn_h5_link_kind)] = []
    var attributes: [String] = []
    /// Whether a name was no UTF-8.
    var isSpoilt = false

    static func links(of group: hid_t) throws(CairnError) -> [(name: String, kind: cairn_h5_link_kind)] {
        let list = NameList()
        let status = withExtendedLifetime(list) {
            cairn_h5_links(
                group,
                { context, name, kind in
                    guard let context, let name else { return -1 }
                    let list = Unmanaged<NameList>.fromOpaque(context).takeUnretainedValue()
                    guard let name = String(validatingCString: name), !name.isEmpty else {
                        list.isSpoilt = true
                        return -1
                    }
                    list.links.append((name, kind))
                    return 0
                }, Unmanaged.passUnretained(list).toOpaque())
        }
        try list.check(status, "list a group")
        return list.links
    }

    static func attributes(of object: hid_t) throws(CairnError) -> [String] {
        let list = NameList()
        let status = withExtendedLifetime(list) {
            cairn_h5_attributes(
                object,
                { context, name in
                    guard let context, let name else { return -1 }
                    let list = Unmanaged<NameList>.fromOpaque(context).takeUnretainedValue()
                    guard let name = String(validatingCString: name) else {
                        list.isSpoilt = true
                        return -1
                    }
                    list.attributes.append(name)
                    return 0
                }, Unmanaged.passUnretained(list).toOpaque())
        }
        try list.check(status, "list attributes")
        return list.attributes.sorted { ExactString($0) < ExactString($1) }
    }

    private func check(_ status: Int32, _ doing: String) throws(CairnError) {
        guard !isSpoilt else {
            throw CairnError(.unsupported, "a name in the file is empty or no UTF-8")
        }
        guard status >= 0 else { throw HDF5Library.failure(doing) }
    }
}
