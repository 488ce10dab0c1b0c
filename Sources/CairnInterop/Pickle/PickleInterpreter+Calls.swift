import CairnBase

extension PickleInterpreter {
    /// Does what an opcode says that calls something or sets the state of what a call makes; false for any other.
    mutating func executeCall(_ opcode: UInt8) throws(CairnError) -> Bool {
        switch opcode {
        case UInt8(ascii: "R"), 0x81: // REDUCE, NEWOBJ
            let (arguments, constructor) = (try pop(), try pop())
            guard case .tuple(let elements) = graph[arguments] else {
                throw failure(.malformed, "the arguments of a call in the pickle are not a tuple")
            }
            try pushCall(constructor, elements)
        case 0x92: // NEWOBJ_EX
            let (named, arguments, constructor) = (try pop(), try pop(), try pop())
            guard case .tuple(let elements) = graph[arguments], case .dictionary(let pairs) = graph[named] else {
                throw failure(.malformed, "the arguments of a call in the pickle are not a tuple")
            }
            try pushCall(constructor, elements + pairs)
        case UInt8(ascii: "i"): // INST
            let module = try text(line())
            let name = try text(line())
            let arguments = try popToMark()
            try pushGlobal(module: module, name: name)
            try pushCall(pop(), arguments)
        case UInt8(ascii: "o"): // OBJ
            let elements = try popToMark()
            guard let constructor = elements.first else {
                throw failure(.malformed, "the pickle calls nothing")
            }
            try pushCall(constructor, Array(elements.dropFirst()))
        case UInt8(ascii: "b"): // BUILD
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
