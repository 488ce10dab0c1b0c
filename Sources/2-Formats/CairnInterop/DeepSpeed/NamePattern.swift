package import CairnBase

/// A regular expression of a checkpoint, matched in time proportional to the text whatever the expression is.
///
/// Knows what lists of parameters' names use of Python's syntax: characters, `.`, classes, `\d`, `\w`, `\s` and their
/// opposites, groups, alternatives, repetitions, `^` and `$`. Everything else is refused rather than guessed. Matching
/// is by simulation of the automaton (Thompson, "Regular Expression Search Algorithm", CACM 1968).
package struct NamePattern: Sendable {
    fileprivate enum Instruction: Sendable {
        case character(CharacterSet)
        case split(Int, Int)
        case begin
        case end
        case match
    }

    /// A set of characters.
    fileprivate struct CharacterSet: Sendable {
        var ranges: [ClosedRange<UInt32>]
        var isInverted = false

        func contains(_ scalar: UInt32) -> Bool { ranges.contains { $0.contains(scalar) } != isInverted }
    }

    private static let greatestByteCount = 4096

    /// As it is written.
    package let text: String
    private let program: [Instruction]

    /// - Throws: ``CairnError/Code/unsupported`` for what is not known.
    package init(_ text: String) throws(CairnError) {
        guard text.utf8.count <= Self.greatestByteCount else {
            throw CairnError(.unsupported, "a pattern of names is too long", .init(found: "\(text.utf8.count) bytes"))
        }
        self.text = text
        var compiler = NamePatternCompiler(text)
        program = try compiler.compile()
    }

    /// Whether a name begins with something that fits: Python's `re.match`.
    package func matchesBeginning(of name: String) -> Bool {
        let scalars = name.unicodeScalars.map(\.value)
        var current: [Int] = [], isListed = [Bool](repeating: false, count: program.count)
        if add(0, to: &current, &isListed, at: 0, of: scalars.count) { return true }
        for (position, scalar) in scalars.enumerated() {
            var next: [Int] = []
            isListed = [Bool](repeating: false, count: program.count)
            for instruction in current {
                guard case .character(let set) = program[instruction], set.contains(scalar) else { continue }
                if add(instruction + 1, to: &next, &isListed, at: position + 1, of: scalars.count) { return true }
            }
            if next.isEmpty { return false }
            current = next
        }
        return false
    }

    /// Adds a place of the program and what can be reached from it without a character; whether that is the end.
    private func add(
        _ start: Int, to list: inout [Int], _ isListed: inout [Bool], at position: Int, of count: Int
    ) -> Bool {
        var work = [start]
        while let instruction = work.popLast() {
            guard !isListed[instruction] else { continue }
            isListed[instruction] = true
            switch program[instruction] {
            case .character: list.append(instruction)
            case .split(let first, let second): work += [second, first]
            case .begin: if position == 0 { work.append(instruction + 1) }
            case .end: if position == count { work.append(instruction + 1) }
            case .match: return true
            }
        }
        return false
    }
}

/// Turns the text of a pattern into a program.
private struct NamePatternCompiler {
    typealias Instruction = NamePattern.Instruction

    private static let greatestDepth = 32
    private static let greatestRepetition = 256
    private static let greatestProgram = 1 << 14

    private let text: String
    private var rest: ArraySlice<Unicode.Scalar>

    init(_ text: String) {
        self.text = text
        rest = Array(text.unicodeScalars)[...]
    }

    mutating func compile() throws(CairnError) -> [Instruction] {
        let program = try alternatives(depth: 0)
        guard rest.isEmpty else { throw unknown() }
        return program + [.match]
    }

    /// Places in a part are counted from its own beginning until it is joined to others.
    private static func moved(_ part: [Instruction], by offset: Int) -> [Instruction] {
        part.map { instruction in
            guard case .split(let first, let second) = instruction else { return instruction }
            return .split(first + offset, second + offset)
        }
    }

    private func joined(_ first: [Instruction], _ second: [Instruction]) throws(CairnError) -> [Instruction] {
        guard first.count + second.count <= Self.greatestProgram else { throw unknown() }
        return first + Self.moved(second, by: first.count)
    }

    private mutating func alternatives(depth: Int) throws(CairnError) -> [Instruction] {
        guard depth <= Self.greatestDepth else { throw unknown() }
        var result = try sequence(depth: depth)
        while rest.first == "|" {
            rest.removeFirst()
            let other = try sequence(depth: depth)
            // Split, the first, a jump over the second, the second.
            let end = result.count + other.count + 2
            var both = try joined([.split(1, result.count + 2)], result)
            both.append(.split(end, end))
            result = try joined(both, other)
        }
        return result
    }

    private mutating func sequence(depth: Int) throws(CairnError) -> [Instruction] {
        var result: [Instruction] = []
        while let next = rest.first, next != "|", next != ")" {
            let part = try repeated(atom(depth: depth))
            result = try joined(result, part)
        }
        return result
    }

    private mutating func repeated(_ part: [Instruction]) throws(CairnError) -> [Instruction] {
        guard let (least, most) = try repetition() else { return part }
        // Whether as few or as many as possible are taken makes no difference to whether a name fits.
        if rest.first == "?" { rest.removeFirst() }
        guard try repetition() == nil else { throw unknown() }
        var result: [Instruction] = []
        for _ in 0..<least { result = try joined(result, part) }
        let optional = part.count + 1
        if let most {
            for _ in least..<most { result = try joined(result, joined([.split(1, optional)], part)) }
        } else {
            result = try joined(result, joined(joined([.split(1, optional + 1)], part), [.split(-optional, 1)]))
        }
        return result
    }

    private mutating func repetition() throws(CairnError) -> (Int, Int?)? {
        switch rest.first {
        case "*":
            rest.removeFirst()
            return (0, nil)
        case "+":
            rest.removeFirst()
            return (1, nil)
        case "?":
            rest.removeFirst()
            return (0, 1)
        case "{":
            rest.removeFirst()
            let least = try number()
            var most: Int? = least
            if rest.first == "," {
                rest.removeFirst()
                most = rest.first == "}" ? nil : try number()
            }
            guard rest.popFirst() == "}", most.map({ $0 >= least }) ?? true else { throw unknown() }
            return (least, most)
        default: return nil
        }
    }

    private mutating func number() throws(CairnError) -> Int {
        let digits = rest.prefix { ("0"..."9").contains($0) }
        rest = rest.dropFirst(digits.count)
        guard let number = Int(String(String.UnicodeScalarView(digits))), number <= Self.greatestRepetition else {
            throw unknown()
        }
        return number
    }

    private mutating func atom(depth: Int) throws(CairnError) -> [Instruction] {
        guard let scalar = rest.popFirst() else { throw unknown() }
        switch scalar {
        case "^": return [.begin]
        case "$": return [.end]
        case ".": return [.character(.init(ranges: [10...10], isInverted: true))]
        case "(":
            if rest.first == "?" {
                guard rest.dropFirst().first == ":" else { throw unknown() }
                rest = rest.dropFirst(2)
            }
            let inner = try alternatives(depth: depth + 1)
            guard rest.popFirst() == ")" else { throw unknown() }
            return inner
        case "[": return [.character(try characterClass())]
        case "\\": return [.character(try escape())]
        case "*", "+", "?", "{", "}", "]", ")", "|": throw unknown()
        default: return [.character(.init(ranges: [scalar.value...scalar.value]))]
        }
    }

    private mutating func escape() throws(CairnError) -> NamePattern.CharacterSet {
        guard let scalar = rest.popFirst() else { throw unknown() }
        let digits: ClosedRange<UInt32> = 0x30...0x39
        let word = [digits, 0x41...0x5A, 0x5F...0x5F, 0x61...0x7A]
        let spaces: [ClosedRange<UInt32>] = [9...13, 32...32]
        switch scalar {
        case "d": return .init(ranges: [digits])
        case "D": return .init(ranges: [digits], isInverted: true)
        case "w": return .init(ranges: word)
        case "W": return .init(ranges: word, isInverted: true)
        case "s": return .init(ranges: spaces)
        case "S": return .init(ranges: spaces, isInverted: true)
        default:
            // Letters and digits have meanings of their own; punctuation stands for itself.
            guard !scalar.properties.isAlphabetic, scalar.properties.numericType == nil else { throw unknown() }
            return .init(ranges: [scalar.value...scalar.value])
        }
    }

    private mutating func characterClass() throws(CairnError) -> NamePattern.CharacterSet {
        var set = NamePattern.CharacterSet(ranges: [])
        if rest.first == "^" {
            rest.removeFirst()
            set.isInverted = true
        }
        var isFirst = true
        while let scalar = rest.popFirst() {
            if scalar == "]", !isFirst { return set }
            isFirst = false
            if scalar == "\\" {
                let escaped = try escape()
                guard !escaped.isInverted else { throw unknown() }
                set.ranges += escaped.ranges
                continue
            }
            if rest.first == "-", let last = rest.dropFirst().first, last != "]" {
                guard last != "\\", last.value >= scalar.value else { throw unknown() }
                rest = rest.dropFirst(2)
                set.ranges.append(scalar.value...last.value)
            } else {
                set.ranges.append(scalar.value...scalar.value)
            }
        }
        throw unknown()
    }

    private func unknown() -> CairnError {
        CairnError(
            .unsupported, "a pattern of names uses what is not understood", .init(found: text.debugDescription))
    }
}
