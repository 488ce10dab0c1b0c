import CairnBase

extension PickleInterpreter {
    /// Does what an opcode says.
    mutating func execute(_ opcode: UInt8) throws(CairnError) {
        switch opcode {
        case 0x80: // PROTO
            let version = try byte()
            guard version <= 5 else { throw failure(.unsupported, "unknown pickle protocol", found: "\(version)") }
        case 0x95: // FRAME
            let length = try count(byteCount: 8)
            guard length <= bytes.count - position else {
                throw failure(.incomplete, "the pickle ends within a frame", found: "\(length) bytes to come")
            }
        case UInt8(ascii: "("): marks.append(stack.count)
        case UInt8(ascii: "0"): // POP, also of a mark
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
        case 0x93: // STACK_GLOBAL
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
