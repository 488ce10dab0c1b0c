import CairnBase

extension PickleInterpreter {
    /// Does what an opcode says.
    mutating func execute(_ opcode: UInt8) throws(CairnError) {
        switch opcode {
        case 0x80:  // PROTO
            let version = try byte()
            guard version <= 5 else { throw failure(.unsupported, "unknown pickle protocol", found: "\(version)") }
        case 0x95:  // FRAME
            let length = try count(byteCount: 8)
            guard length <= bytes.count - position else {
                throw failure(.incomplete, "the pickle ends within a frame", found: "\(length) bytes to come")
            }
        case UInt8(ascii: "("): marks.append(stack.count)
        case UInt8(ascii: "0"):  // POP, also of a mark
            if marks.last == stack.count, !marks.isEmpty { marks.removeLast() } else { _ = try pop() }
        case UInt8(ascii: "1"): _ = try popToMark()
        case UInt8(ascii: "2"): stack.append(try top())
        case UInt8(ascii: "N"): stack.append(Self.noneNode)
        case 0x88: stack.append(Self.trueNode)
        case 0x89: stack.append(Self.falseNode)
        case UInt8(ascii: "p"), UInt8(ascii: "q"), UInt8(ascii: "r"), 0x94: try remember(opcode)
        case UInt8(ascii: "g"), UInt8(ascii: "h"), UInt8(ascii: "j"): try recall(opcode)
        case UInt8(ascii: "c"):
            let module = try text(line())
            try pushGlobal(module: module, name: text(line()))
        case 0x93:  // STACK_GLOBAL
            let (name, module) = (try pop(), try pop())
            guard let moduleText = graph.string(module), let nameText = graph.string(name) else {
                throw failure(.malformed, "the name of a class in the pickle is not text")
            }
            try pushGlobal(module: moduleText, name: nameText)
        case UInt8(ascii: "P"): try push(.persistent(make(.string(text(line())))))
        case UInt8(ascii: "Q"): try push(.persistent(pop()))
        default:
            if try executeScalar(opcode) { return }
            if try executeContainer(opcode) { return }
            if try executeCall(opcode) { return }
            throw failure(
                .unsupported, "an opcode of the pickle is unknown or cannot be in a file",
                found: "0x" + String(opcode, radix: 16))
        }
    }

    private mutating func remember(_ opcode: UInt8) throws(CairnError) {
        let key =
            switch opcode {
            case UInt8(ascii: "p"): try decimal(line())
            case UInt8(ascii: "q"): try count(byteCount: 1)
            case UInt8(ascii: "r"): try count(byteCount: 4)
            default: memo.count
            }
        memo[key] = try top()
    }

    private mutating func recall(_ opcode: UInt8) throws(CairnError) {
        let key =
            switch opcode {
            case UInt8(ascii: "g"): try decimal(line())
            case UInt8(ascii: "h"): try count(byteCount: 1)
            default: try count(byteCount: 4)
            }
        guard let found = memo[key] else {
            throw failure(.malformed, "the pickle refers to what it has not made", found: "\(key)")
        }
        stack.append(found)
    }

    private mutating func executeContainer(_ opcode: UInt8) throws(CairnError) -> Bool {
        switch opcode {
        case UInt8(ascii: "]"): try push(.list([]))
        case UInt8(ascii: "l"): try push(.list(popToMark()))
        case UInt8(ascii: ")"): try push(.tuple([]))
        case UInt8(ascii: "t"): try push(.tuple(popToMark()))
        case 0x85: try push(.tuple([pop()]))
        case 0x86:
            let (second, first) = (try pop(), try pop())
            try push(.tuple([first, second]))
        case 0x87:
            let (third, second, first) = (try pop(), try pop(), try pop())
            try push(.tuple([first, second, third]))
        case UInt8(ascii: "}"): try push(.dictionary([]))
        case UInt8(ascii: "d"): try push(.dictionary(pairs(popToMark())))
        case 0x8F: try push(.set([]))
        case 0x91: try push(.set(popToMark()))
        case UInt8(ascii: "a"): try append([pop()])
        case UInt8(ascii: "e"), 0x90: try append(popToMark())
        case UInt8(ascii: "s"):
            let (value, key) = (try pop(), try pop())
            try set([key, value])
        case UInt8(ascii: "u"): try set(pairs(popToMark()))
        default: return false
        }
        return true
    }

    private func pairs(_ references: [Reference]) throws(CairnError) -> [Reference] {
        guard references.count.isMultiple(of: 2) else {
            throw failure(.malformed, "a dictionary of the pickle has a key without a value")
        }
        return references
    }

    /// Appends to the list, set or object on top.
    private mutating func append(_ elements: [Reference]) throws(CairnError) {
        let target = try top()
        let index = Int(target.index)
        switch graph.nodes[index] {
        case .list(var list):
            graph.nodes[index] = .none
            list += elements
            graph.nodes[index] = .list(list)
        case .set(var set):
            graph.nodes[index] = .none
            set += elements
            graph.nodes[index] = .set(set)
        case .object(let object): graph.objects[Int(object)].elements += elements
        default: throw failure(.malformed, "the pickle appends to what is not a list")
        }
    }

    /// Sets keys and values in the dictionary or object on top.
    private mutating func set(_ pairs: [Reference]) throws(CairnError) {
        let index = Int(try top().index)
        switch graph.nodes[index] {
        case .dictionary(var items):
            graph.nodes[index] = .none
            items += pairs
            graph.nodes[index] = .dictionary(items)
        case .object(let object): graph.objects[Int(object)].items += pairs
        default: throw failure(.malformed, "the pickle sets keys of what is not a dictionary")
        }
    }
}

extension PickleInterpreter {
    /// Does what an opcode says that calls something or sets the state of what a call makes; false for any other.
    mutating func executeCall(_ opcode: UInt8) throws(CairnError) -> Bool {
        switch opcode {
        case UInt8(ascii: "R"), 0x81:  // REDUCE, NEWOBJ
            let (arguments, constructor) = (try pop(), try pop())
            guard case .tuple(let elements) = graph[arguments] else {
                throw failure(.malformed, "the arguments of a call in the pickle are not a tuple")
            }
            try pushCall(constructor, elements)
        case 0x92:  // NEWOBJ_EX
            let (named, arguments, constructor) = (try pop(), try pop(), try pop())
            guard case .tuple(let elements) = graph[arguments], case .dictionary(let pairs) = graph[named] else {
                throw failure(.malformed, "the arguments of a call in the pickle are not a tuple")
            }
            try pushCall(constructor, elements + pairs)
        case UInt8(ascii: "i"):  // INST
            let module = try text(line())
            let name = try text(line())
            let arguments = try popToMark()
            try pushGlobal(module: module, name: name)
            try pushCall(pop(), arguments)
        case UInt8(ascii: "o"):  // OBJ
            let elements = try popToMark()
            guard let constructor = elements.first else {
                throw failure(.malformed, "the pickle calls nothing")
            }
            try pushCall(constructor, Array(elements.dropFirst()))
        case UInt8(ascii: "b"):  // BUILD
            let state = try pop()
            guard case .object(let index) = graph[try top()], graph.objects[Int(index)].state == nil else {
                throw failure(.malformed, "the pickle sets the state of what has none, or sets it twice")
            }
            graph.objects[Int(index)].state = state
        default: return false
        }
        return true
    }

    /// Notes a call.
    private mutating func pushCall(_ constructor: Reference, _ arguments: [Reference]) throws(CairnError) {
        guard let global = graph.global(constructor) ?? savedClass(constructor) else {
            throw failure(.unsupported, "the pickle calls something that has no name")
        }
        if global.isBuiltin {
            switch global.name {
            case "getattr": return try pushAttribute(arguments)
            case "eval":
                // How Paddle pickles a tensor: a name that stands for the array beside it.
                if let value = namedValue(arguments) { return stack.append(value) }
            // With more arguments it would make a class.
            case "type" where arguments.count > 1: try refuse(global)
            default: break
            }
        }
        if HostileGlobals.contains(global) { try refuse(global) }
        try pushObject(global, arguments)
    }

    private mutating func pushObject(_ global: PickleGraph.Global, _ arguments: [Reference]) throws(CairnError) {
        graph.objects.append(PickleGraph.Object(constructor: global, arguments: arguments))
        try push(.object(Int32(graph.objects.count - 1)))
    }

    private func refuse(_ global: PickleGraph.Global) throws(CairnError) {
        guard refusesCalls else { return }
        throw failure(
            .unsupported, "the pickle would run code: no checkpoint calls \(global.path)",
            advice: "do not load this file with anything that executes pickles")
    }

    /// What `getattr` would find: of a class another name, as later protocols spell a class within a class, an
    /// enumeration's member or a method; of an object a method, which stays closed as any other object.
    private mutating func pushAttribute(_ arguments: [Reference]) throws(CairnError) {
        let getattr = PickleGraph.Global(module: "builtins", name: "getattr")
        guard (2...3).contains(arguments.count), let name = graph.string(arguments[1]) else {
            return try refuse(getattr)
        }
        if let owner = graph.global(arguments[0]) {
            let attribute = PickleGraph.Global(module: owner.module, name: owner.name + "." + name)
            if HostileGlobals.contains(attribute) { try refuse(attribute) }
            return try pushGlobal(module: attribute.module, name: attribute.name)
        }
        guard let owner = graph.object(arguments[0])?.constructor else { return try refuse(getattr) }
        let attribute = PickleGraph.Global(module: owner.module, name: owner.name + "." + name)
        if HostileGlobals.contains(attribute) { try refuse(attribute) }
        try pushObject(attribute, [arguments[0]])
    }

    /// What the name `data` stands for in `eval("data", {"data": value})`.
    private func namedValue(_ arguments: [Reference]) -> Reference? {
        guard arguments.count == 2, graph.string(arguments[0]) == "data",
            case .dictionary(let items) = graph[arguments[1]], items.count == 2, graph.string(items[0]) == "data"
        else { return nil }
        return items[1]
    }

    /// The class that files of before PyTorch 1.6 save together with its source: `("module", class, …)`.
    private func savedClass(_ reference: Reference) -> PickleGraph.Global? {
        guard case .persistent(let identification) = graph[reference], let parts = graph.sequence(identification),
            parts.count >= 2, graph.string(parts[0]) == "module"
        else { return nil }
        return graph.global(parts[1])
    }
}

extension PickleGraph.Global {
    /// Whether it is one of Python's own functions or types.
    var isBuiltin: Bool { module == "builtins" || module == "__builtin__" }
}
