import CCairnKernels
import CairnBase
import CairnTensor
import CairnTesting
import Testing

@Suite struct MergeKernels {
    /// Philox4x32-10 as the paper has it, one block at a time.
    private static func block(_ counter: [UInt32], _ key: [UInt32]) -> [UInt32] {
        var (x, k) = (counter, key)
        for _ in 0..<10 {
            let a = x[0].multipliedFullWidth(by: 0xD251_1F53), b = x[2].multipliedFullWidth(by: 0xCD9E_8D57)
            x = [b.high ^ x[1] ^ k[0], b.low, a.high ^ x[3] ^ k[1], a.low]
            k = [k[0] &+ 0x9E37_79B9, k[1] &+ 0xBB67_AE85]
        }
        return x
    }

    /// The known answers of the Random123 distribution (`kat_vectors`, philox4x32 10), and the kernel beside it.
    @Test func theGeneratorIsPhilox() {
        #expect(Self.block([0, 0, 0, 0], [0, 0]) == [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8])
        #expect(
            Self.block([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0])
                == [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1])
        let (key, stream, first) = (0x299f_31d0_a409_3822 as UInt64, 0x0370_7344_1319_8a2e as UInt64, 0x5_0000_0001)
        for level in 0...3 {
            var numbers = [UInt32](repeating: 0, count: 3)
            cairn_philox_fill(Int32(level), key, stream, UInt64(4 * first + 1), &numbers, 3)
            let expected = Self.block([1, 5, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0])
            #expect(numbers == Array(expected[1...]))
        }
    }

    @Test func numbersDependOnTheirPlaceAloneAtEveryLevel() {
        var whole = [UInt32](repeating: 0, count: 1000)
        cairn_philox_fill(0, 7, 9, 0, &whole, 1000)
        for level in 0...3 {
            for (first, count) in [(0, 1000), (1, 6), (3, 130), (127, 300), (997, 3)] {
                var part = [UInt32](repeating: 0, count: count)
                cairn_philox_fill(Int32(level), 7, 9, UInt64(first), &part, count)
                #expect(part == Array(whole[first..<first + count]))
            }
        }
        #expect(Set(whole).count > 990)
    }

    /// Products and sums of which nothing is left in double precision.
    @Test(arguments: [0, 2, 3] as [Int32]) func compensatedProductsKeepWhatCancels(level: Int32) {
        let one = [1e3, 1 + 0x1p-30, 3, -1e3] + [Double](repeating: 0.5, count: 40)
        let other = [1e3, 1 - 0x1p-30, 0x1p-60, 1e3] + (0..<40).map { $0 % 2 == 0 ? 1e5 : -1e5 }
        var sums = [0.0, 0.0]
        cairn_merge_dot_compensated(level, one, other, one.count, &sums)
        // (1 + e)(1 - e) + 3 e² with e = 2^-30
        #expect(sums[0] == 1 && sums[1] == 2 * 0x1p-60)
    }

    /// Every loop gives the same bits whatever instructions it uses.
    @Test(arguments: [0, 1] as [Int32])
    func levelsAgree(precise: Int32) throws {
        let seed: UInt64 = 20
        var random = RandomTensors(seed: seed)
        let count = 3001
        for type in [ScalarType.f32, .bf16, .f16, .f64, .f8e4m3] {
            let tensors = try (0..<4).map { _ in try random.tensor([count], type) }
            var results: [[UInt8]] = []
            for level in [0, 2, 3] as [Int32] {
                results.append(try Self.everything(level, precise, tensors, count))
            }
            #expect(results[0] == results[1], "seed \(seed), \(type)")
            #expect(results[0] == results[2], "seed \(seed), \(type)")
        }
    }

    private static func everything(
        _ level: Int32, _ precise: Int32, _ tensors: [Tensor], _ count: Int
    ) throws -> [UInt8] {
        let elements = tensors.map {
            cairn_elements(bytes: UnsafeRawPointer($0.storage.base), type: $0.scalarType.kernelNumber ?? 0)
        }
        var bytes = [UInt8](repeating: 0, count: count * 8)
        var result: [UInt8] = []
        for (index, x) in elements.enumerated() {
            cairn_merge_add(level, precise, x, 0.3 + Double(index), index == 0 ? 1 : 0, &bytes, count)
        }
        cairn_merge_divide(level, precise, 3.3, &bytes, count)
        result += bytes
        cairn_merge_difference(level, precise, elements[0], elements[1], &bytes, count)
        result += bytes
        var dot = cairn_merge_dot(level, precise, bytes, bytes, count)
        withUnsafeBytes(of: &dot) { result += Array($0) }
        var sums = (0.0, 0.0)
        let doubles = try tensors.prefix(2).map { try $0.converted(to: .f64).elements(as: Double.self) }
        withUnsafeMutableBytes(of: &sums) { sums in
            cairn_merge_dot_compensated(
                level, doubles[0], doubles[1], count, sums.baseAddress?.assumingMemoryBound(to: Double.self))
        }
        withUnsafeBytes(of: &sums) { result += Array($0) }
        var magnitudes = cairn_sparsity()
        magnitudes.by_magnitude = 1
        (magnitudes.low, magnitudes.high) = (Float(0.5).bitPattern, Float(2).bitPattern)
        (magnitudes.low_cut, magnitudes.high_cut) = (1000, 2000)
        var random = cairn_sparsity()
        (random.at_random, random.key, random.stream, random.limit, random.scale) = (1, 5, 6, 1 << 31, 1.9)
        let tasks = zip(elements[1...], [magnitudes, random, cairn_sparsity()]).map {
            cairn_task(x: $0, sparsity: $1, weight: 0.7)
        }
        for majority in 0...1 {
            let rule = cairn_task_rule(takes_majority: Int32(majority), normalizes: 1, least_divisor: 0, lambda: 0.9)
            cairn_merge_tasks(level, precise, elements[0], tasks, 3, rule, 3, &bytes, count)
            result += bytes
        }
        var (before, after) = (0.0, 0.0)
        cairn_merge_norms(level, precise, elements[1], elements[0], &random, 3, count, &before, &after)
        withUnsafeBytes(of: &before) { result += Array($0) }
        withUnsafeBytes(of: &after) { result += Array($0) }
        #expect(after > 0.3 * before && after < 0.7 * before)
        var counters = [UInt64](repeating: 0, count: 1 << 16)
        cairn_merge_count_upper(level, precise, elements[1], elements[0], count, &counters)
        #expect(counters.reduce(0, +) == UInt64(count))
        counters.withUnsafeBytes { result += Array($0) }
        return result
    }
}
