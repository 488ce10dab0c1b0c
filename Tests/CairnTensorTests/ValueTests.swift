import CairnBase
import CairnTensor
import Testing

@Suite struct ValueTests {
    private struct Group: Codable, Equatable {
        var rate: Double
        var betas: [Float]
        var name: String?
    }

    private enum Phase: String, Codable { case warmup, decay }

    private class Base: Codable {
        var seed: UInt64 = .max
    }

    private final class Derived: Base {
        var more = 3

        private enum CodingKeys: String, CodingKey { case more }

        override init() { super.init() }

        required init(from decoder: any Decoder) throws {
            let container = try decoder.container(keyedBy: CodingKeys.self)
            more = try container.decode(Int.self, forKey: .more)
            try super.init(from: container.superDecoder())
        }

        override func encode(to encoder: any Encoder) throws {
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(more, forKey: .more)
            try super.encode(to: container.superEncoder())
        }
    }

    private struct Loader: Codable, Equatable {
        var epoch = 3
        var largest = UInt64.max
        var least = Int64.min
        var key: [UInt8] = [0, 255, 7]
        var phase = Phase.decay
        var groups = [Group(rate: 0.1, betas: [0.9, 0.999], name: nil), Group(rate: -0.0, betas: [], name: "b")]
        var table: [String: [Int?]] = ["a": [1, nil, 3], "": []]
        var flags = (0..<3).map { $0 == 1 }
        var nothing: Int?
        var infinite = -Double.infinity
    }

    @Test func accessorsGiveWhatFitsAndNothingElse() {
        let value: Value = ["lr": 0.1, "step": 400, "name": "adam", "betas": [0.9, 0.95], "on": true]
        #expect(value["lr"]?.double == 0.1 && value["step"]?.int == 400 && value["step"]?.double == 400)
        #expect(value["name"]?.string == "adam" && value["on"]?.bool == true && value["betas"]?[1]?.double == 0.95)
        #expect(value["betas"]?[2] == nil && value["betas"]?[-1] == nil && value["none"] == nil && value[0] == nil)
        #expect(value.dictionary?.count == 5 && value.list == nil && value.string == nil && Value.null.isNull)
        #expect(Value(UInt64.max).int == nil && Value(UInt64.max).uint64 == .max && Value(-1).uint64 == nil)
        #expect(Value(UInt64.max).double == nil && Value(Int.max).double == nil, "no rounding without a word")
        #expect(Value(2.5).int == nil && Value(true).int == nil && Value("1").int == nil)
        #expect(Value(bytes: [1, 2]).bytes == [1, 2] && Value(Float(0.5)) == .double(0.5) && Value(UInt64(5)) == .integer(5))
    }

    @Test func whatIsCodableComesBack() throws {
        let loader = Loader()
        let value = try Value(encoding: loader)
        #expect(value["key"] == .bytes([0, 255, 7]) && value["largest"] == .unsigned(.max))
        #expect(value["groups"]?[1]?["rate"] == .double(-0.0), "the sign of zero")
        #expect(value["table"]?["a"]?[1] == .null && value["nothing"] == nil)
        #expect(try value.decoded() as Loader == loader)
        #expect(try Value(encoding: 7) == .integer(7))
        #expect(try Value(encoding: [[1], []]) == .list([.list([1]), .list([])]))
        #expect(try Value(encoding: [UInt8]()) == .bytes([]))
        #expect(try Value(encoding: [[UInt8]]([[1], []])) == .list([.bytes([1]), .bytes([])]))
        #expect(try Value.bytes([1, 2]).decoded(as: [Int].self) == [1, 2])
        #expect(try Value.list([1, 2]).decoded(as: [UInt8].self) == [1, 2])
        let derived = try Value(encoding: Derived()).decoded(as: Derived.self)
        #expect(derived.more == 3 && derived.seed == .max)
        struct Empty: Codable, Equatable {}
        #expect(try Value(encoding: Empty()).decoded(as: Empty.self) == Empty())
    }

    @Test func whatDoesNotFitSaysWhere() throws {
        var value = try Value(encoding: Loader())
        guard case .dictionary(var members) = value else { return }
        members["groups"] = .list([.dictionary(["rate": "fast", "betas": []])])
        value = .dictionary(members)
        let error = #expect(throws: CairnError.self) { try value.decoded(as: Loader.self) }
        #expect(error?.code == .mismatch && error?.context.found == "groups.0.rate", "\(error.map { "\($0)" } ?? "")")
        #expect(throws: CairnError.self) { try Value.integer(300).decoded(as: UInt8.self) }
        #expect(throws: CairnError.self) { try Value.double(2).decoded(as: Int.self) }
        #expect(throws: CairnError.self) { try Value.double(1e300).decoded(as: Float.self) }
        let missing = #expect(throws: CairnError.self) { try Value.dictionary([:]).decoded(as: Group.self) }
        #expect(missing?.message.contains("\"rate\"") == true)
    }

    @Test func elementsGoToAndFromMemoryOfTheCaller() throws {
        let tensor = try Tensor([1, 2, 3, 4, 5, 6] as [Float], shape: [2, 3])
        var memory = [Float](repeating: 0, count: 6)
        var span = memory.mutableSpan
        try tensor.copyElements(into: &span)
        #expect(memory == [1, 2, 3, 4, 5, 6])
        func copyIntoTooLittle() throws {
            var short = [Float](repeating: 0, count: 5)
            var shorter = short.mutableSpan
            try tensor.copyElements(into: &shorter)
        }
        #expect(throws: CairnError.self) { try copyIntoTooLittle() }
        let view = try tensor.span(of: Float.self)
        let (count, fifth) = (view.count, view[4])
        #expect(count == 6 && fifth == 5)
        #expect(throws: CairnError.self) { try tensor.span(of: Int32.self).count }
        #expect(try tensor.converted(to: .bf16).elements(convertedTo: Double.self) == [1, 2, 3, 4, 5, 6])
        #expect(throws: CairnError.self) { try Tensor([1] as [Float], shape: [2]) }
    }
}
