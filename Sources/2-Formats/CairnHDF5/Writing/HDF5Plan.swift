import CHDF5
import CHDF5Calls
import CairnBase
import CairnCheckpoint
import CairnTensor

/// The groups, datasets and attributes of a file to be written.
struct HDF5Plan {
    private enum Target {
        case group([String])
        case dataset(String)
    }

    /// The most bytes of an attribute's name, and dimensions of a dataset.
    private static let greatestName = 65_000, greatestDimensionCount = 32

    private let tensors: [TensorDescription]
    /// Tensors whose types attributes say.
    private let typedTensors: Set<ExactString>
    /// The paths of groups, each behind those above it.
    private var groups: [[String]] = []
    private var knownGroups: Set<[ExactString]> = [[]]
    private var datasets: Set<ExactString> = []
    private var attributes: [(target: Target, name: String, value: Value)] = []
    /// What could not be carried over, a sentence each.
    private(set) var notes: [String] = []

    init(tensors: [TensorDescription], values: [NamedValue], file: String) throws(CairnError) {
        self.tensors = tensors
        datasets = Set(tensors.map { ExactString($0.name) })
        typedTensors = Set(
            tensors.filter { OpaqueTypeName.name(of: $0.scalarType) != nil }.map { ExactString($0.name) })
        for tensor in tensors {
            guard tensor.shape.dimensionCount <= Self.greatestDimensionCount else {
                throw CairnError(
                    .unsupported, "HDF5 cannot have a dataset of so many dimensions",
                    .init(
                        file: file, tensor: tensor.name, expected: "at most \(Self.greatestDimensionCount)",
                        found: "\(tensor.shape.dimensionCount)", advice: "write another format, as safetensors"))
            }
            guard let path = Self.components(tensor.name) else {
                throw CairnError(
                    .unsupported, "HDF5 cannot have a dataset of this name",
                    .init(
                        file: file, tensor: tensor.name, expected: "names between slashes, none empty or \".\"",
                        advice: "rename it"))
            }
            for depth in 0..<path.count - 1 {
                let group = Array(path.prefix(depth + 1))
                guard !datasets.contains(ExactString(group.joined(separator: "/"))) else {
                    throw CairnError(
                        .unsupported, "a tensor would lie inside of another one",
                        .init(file: file, tensor: tensor.name, found: group.joined(separator: "/"), advice: "rename it")
                    )
                }
                addGroup(group)
            }
        }
        noteTypes()
        for value in values { add(value.value, named: value.name, to: []) }
        leaveOutNamesakes()
    }

    /// A value cannot have the name of a group that came after it.
    private mutating func leaveOutNamesakes() {
        var kept: [(target: Target, name: String, value: Value)] = []
        for attribute in attributes {
            if case .group(let group) = attribute.target,
                knownGroups.contains((group + [attribute.name]).map { ExactString($0) })
            {
                let fullName = (group + [attribute.name]).joined(separator: ".")
                notes.append("the value \"\(fullName)\" is left out: something else has its name")
            } else {
                kept.append(attribute)
            }
        }
        attributes = kept
    }

    /// Whether an attribute can have a name.
    private static func isAttributeName(_ name: String) -> Bool {
        !name.isEmpty && !name.utf8.contains(0) && name.utf8.count <= greatestName
    }

    /// The parts of a path, `nil` for what is not a path.
    private static func components(_ name: String) -> [String]? {
        let parts = name.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        guard parts.allSatisfy({ !$0.isEmpty && $0 != "." && !$0.utf8.contains(0) }) else { return nil }
        return parts
    }

    private mutating func addGroup(_ path: [String]) {
        if knownGroups.insert(path.map { ExactString($0) }).inserted { groups.append(path) }
    }

    private mutating func noteTypes() {
        let opaque = tensors.filter { $0.tiedTo == nil && OpaqueTypeName.name(of: $0.scalarType) != nil }
        for scalarType in Set(opaque.map(\.scalarType)).sorted(by: { $0.rawValue < $1.rawValue }) {
            let names = opaque.filter { $0.scalarType == scalarType }.map(\.name)
            let some = names.prefix(3).joined(separator: ", ") + (names.count > 3 ? ", …" : "")
            notes.append(
                "\(names.count) tensors of \(scalarType), which HDF5 has no type for (\(some)), are opaque bytes "
                    + "with an attribute dtype that says what they are")
        }
    }

    // MARK: Values

    private mutating func add(_ value: Value, named name: String, to group: [String]) {
        let fullName = (group + [name]).joined(separator: ".")
        switch value {
        case .dictionary(let members):
            if members.isEmpty {
                notes.append(
                    "the value \"\(fullName)\" is an empty dictionary, and a group with nothing in it is not a value")
            } else if (0..<members.count).allSatisfy({ members[String($0)] != nil }) {
                notes.append("the value \"\(fullName)\" has the keys 0, 1 and so on, and will be read as a list")
            }
            addMembers(members.sorted { ExactString($0.key) < ExactString($1.key) }, name, group)
        case .list(let elements) where HDF5Attribute.kind(of: elements) == nil:
            addMembers(elements.enumerated().map { (String($0.offset), $0.element) }, name, group)
        default:
            guard Self.isAttributeName(name), HDF5Attribute.canHold(value) else {
                notes.append("the value \"\(fullName.prefix(200))\" is left out: no attribute can hold it")
                return
            }
            guard !datasets.contains(ExactString((group + [name]).joined(separator: "/"))) else {
                notes.append("the value \"\(fullName)\" is left out: something else has its name")
                return
            }
            attributes.append((.group(group), name, value))
        }
    }

    /// Members become a group; what stands under the name of a tensor becomes its attributes.
    private mutating func addMembers(_ members: [(key: String, value: Value)], _ name: String, _ group: [String]) {
        let path = group + [name]
        let shown = path.joined(separator: "/")
        let fullName = path.joined(separator: ".")
        if datasets.contains(ExactString(shown)) {
            for member in members {
                guard HDF5Attribute.canHold(member.value), Self.isAttributeName(member.key) else {
                    notes.append("the value \"\(fullName).\(member.key.prefix(200))\" is left out: \(shown) is a tensor")
                    continue
                }
                guard !typedTensors.contains(ExactString(shown)) || !["dtype", "shape"].contains(member.key) else {
                    notes.append(
                        "the value \"\(fullName).\(member.key)\" is left out: an attribute of that name says what the tensor is")
                    continue
                }
                attributes.append((.dataset(shown), member.key, member.value))
            }
            return
        }
        // Slashes in the name of a whole tree divide it as those of tensors are divided.
        guard
            let parts = group.isEmpty
                ? Self.components(name) : Self.components(name).flatMap({ $0.count == 1 ? $0 : nil })
        else {
            notes.append("the values under \"\(fullName)\" are left out: no group can have that name")
            return
        }
        let whole = group + parts
        for depth in whole.indices {
            let outer = Array(whole.prefix(depth + 1))
            guard !datasets.contains(ExactString(outer.joined(separator: "/"))) else {
                notes.append("the values under \"\(fullName)\" are left out: \(outer.joined(separator: "/")) is a tensor")
                return
            }
            addGroup(outer)
        }
        for member in members { add(member.value, named: member.key, to: whole) }
    }

    // MARK: Writing

    private static func path(_ target: Target) -> String {
        switch target {
        case .group(let path): path.isEmpty ? "/" : path.joined(separator: "/")
        case .dataset(let path): path
        }
    }

    /// Makes everything in an empty file.
    ///
    /// - Returns: Where the elements of each stored tensor go.
    func write(to file: hid_t) throws(CairnError) -> [(name: String, offset: Int, byteCount: Int)] {
        let groupProperties = try HDF5Handle(cairn_h5_group_properties(), closing: H5Pclose, "set up groups")
        for path in groups {
            _ = try HDF5Handle(
                H5Gcreate2(file, path.joined(separator: "/"), defaultProperties, groupProperties.id, defaultProperties),
                closing: H5Gclose, "make a group")
        }
        var datasets: [(name: String, offset: Int, byteCount: Int)] = []
        for tensor in tensors where tensor.tiedTo == nil {
            do throws(CairnError) {
                datasets.append((tensor.name, try HDF5Dataset.make(tensor, in: file), tensor.byteCount))
            } catch {
                throw error.adding(.init(tensor: tensor.name))
            }
        }
        for tensor in tensors {
            guard let kept = tensor.tiedTo else { continue }
            guard H5Lcreate_hard(file, kept, file, tensor.name, defaultProperties, defaultProperties) >= 0 else {
                throw CairnError(
                    .invalidArgument, "the tensor that this one is tied to is not written",
                    .init(tensor: tensor.name, expected: kept))
            }
        }
        for (target, name, value) in attributes {
            let path = Self.path(target)
            let object = try HDF5Handle(H5Oopen(file, path, defaultProperties), closing: H5Oclose, "open an object")
            do throws(CairnError) {
                try HDF5Attribute.write(value, name, to: object.id)
            } catch {
                throw error.adding(.init(tensor: path + "@" + name))
            }
        }
        return datasets
    }
}

/// A dataset to be written.
enum HDF5Dataset {
    /// Makes a dataset with its space set aside.
    ///
    /// - Returns: Where its elements go in the file; 0 when there are none.
    static func make(_ tensor: TensorDescription, in file: hid_t) throws(CairnError) -> Int {
        // Packed elements become a row of bytes.
        let extents = tensor.scalarType.isPacked ? [tensor.byteCount] : tensor.shape.extents
        let type = try type(of: tensor.scalarType)
        let space = try HDF5Handle(
            extents.isEmpty
                ? H5Screate(H5S_SCALAR) : H5Screate_simple(Int32(extents.count), extents.map { hsize_t($0) }, nil),
            closing: H5Sclose, "make a shape")
        let properties = try HDF5Handle(
            cairn_h5_dataset_properties(tensor.byteCount > 0 ? 1 : 0), closing: H5Pclose, "set up a dataset")
        let dataset = try HDF5Handle(
            H5Dcreate2(file, tensor.name, type.id, space.id, defaultProperties, properties.id, defaultProperties),
            closing: H5Dclose, "make a dataset")
        if let name = OpaqueTypeName.name(of: tensor.scalarType) {
            try HDF5Attribute.write(.string(name), "dtype", to: dataset.id)
            if tensor.scalarType.isPacked {
                let shape = tensor.shape.extents.map { Value.integer(Int64($0)) }
                try HDF5Attribute.write(.list(shape), "shape", to: dataset.id)
            }
        }
        guard tensor.byteCount > 0 else { return 0 }
        let offset = H5Dget_offset(dataset.id)
        guard offset != cairn_h5_undefined_address(), let exact = Int(exactly: offset) else {
            throw HDF5Library.failure("set space aside for a dataset")
        }
        return exact
    }

    private static func type(of scalarType: ScalarType) throws(CairnError) -> HDF5Handle {
        let width = scalarType.byteWidth ?? 1
        switch scalarType {
        case .bool: return try boolean()
        case .i8, .i16, .i32, .i64:
            return try HDF5Handle(H5Tcopy(cairn_h5_stored_integer(1, width)), closing: H5Tclose, "make a type")
        case .u8, .u16, .u32, .u64:
            return try HDF5Handle(H5Tcopy(cairn_h5_stored_integer(0, width)), closing: H5Tclose, "make a type")
        case .f16, .f32, .f64:
            return try HDF5Handle(cairn_h5_stored_float(width), closing: H5Tclose, "make a type")
        case .c32, .c64, .c128:
            let part = try HDF5Handle(cairn_h5_stored_float(width / 2), closing: H5Tclose, "make a type")
            let type = try HDF5Handle(H5Tcreate(H5T_COMPOUND, width), closing: H5Tclose, "make a type")
            try HDF5Library.check(H5Tinsert(type.id, "r", 0, part.id), "make a complex type")
            try HDF5Library.check(H5Tinsert(type.id, "i", width / 2, part.id), "make a complex type")
            return type
        default: return try HDF5Handle(H5Tcreate(H5T_OPAQUE, width), closing: H5Tclose, "make a type")
        }
    }

    /// The type by which h5py stores truth values.
    static func boolean() throws(CairnError) -> HDF5Handle {
        let type = try HDF5Handle(
            H5Tenum_create(cairn_h5_stored_integer(1, 1)), closing: H5Tclose, "make a type")
        for (name, number) in [("FALSE", Int8(0)), ("TRUE", 1)] {
            var number = number
            try HDF5Library.check(H5Tenum_insert(type.id, name, &number), "make a type")
        }
        return type
    }
}
