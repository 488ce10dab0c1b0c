public import CairnBase
public import CairnCheckpoint
public import CairnTensor

/// Which samples of an epoch a rank still has to deliver, as ranges of the epoch's order.
///
/// Ranks that deliver samples each at its own pace cannot say by one number how far the epoch has come. Each keeps what
/// is left to it and saves that as a value of its own; ranks of another number share out what all of them had left, so
/// that every sample is seen exactly once however often that happens.
///
/// ```swift
/// var remaining = RemainingSamples(count: samples).share(dataRank, of: dataRanks)
/// let batch = remaining.take(16)                                     // positions in the epoch's order
/// state.rankValues.append(NamedValue(name: "samples", value: remaining.value))
/// // … and on a mesh with another dp:
/// let left = try RemainingSamples(reading: reader, value: "samples").share(dataRank, of: dataRanks)
/// ```
public struct RemainingSamples: Sendable, Hashable {
    /// Positions in the epoch's order: ascending, neither empty nor adjacent.
    package private(set) var ranges: [Range<Int>]

    /// A whole epoch of `count` samples.
    public init(count: Int) {
        ranges = count > 0 ? [0..<count] : []
    }

    /// How many there are.
    public var count: Int { ranges.reduce(0) { $0 + $1.count } }

    /// Whether the epoch is over.
    public var isEmpty: Bool { ranges.isEmpty }

    /// Takes the first `count` samples, or all that there are.
    ///
    /// - Returns: Their positions in the epoch's order.
    public mutating func take(_ count: Int) -> [Int] {
        var taken: [Int] = []
        var left = max(0, count)
        while left > 0, let range = ranges.first {
            let part = range.prefix(left)
            taken += part
            left -= part.count
            if part.count == range.count {
                ranges.removeFirst()
            } else {
                ranges[0] = part.upperBound..<range.upperBound
            }
        }
        return taken
    }

    /// One of `parts` shares that together are all and differ by one sample at most.
    public func share(_ part: Int, of parts: Int) -> RemainingSamples {
        precondition(parts > 0 && (0..<parts).contains(part), "there is no such share")
        let (each, more) = count.quotientAndRemainder(dividingBy: parts)
        let begin = part * each + min(part, more)
        let end = begin + each + (part < more ? 1 : 0)
        var share = RemainingSamples(count: 0)
        var passed = 0
        for range in ranges {
            let common = (begin..<end).clamped(to: passed..<passed + range.count)
            if !common.isEmpty {
                let shift = range.lowerBound - passed
                share.ranges.append(common.lowerBound + shift..<common.upperBound + shift)
            }
            passed += range.count
        }
        return share
    }

    /// What several ranks have left, together. Ranks that have the same left are replicas of each other: the ranks of a
    /// tensor-parallel group see the same samples.
    ///
    /// - Throws: ``CairnError/Code/mismatch`` when two ranks would deliver the same sample and are not replicas; it
    ///   names one of them.
    public init(gathering parts: [RemainingSamples]) throws(CairnError) {
        var seen: Set<RemainingSamples> = []
        var all: [(range: Range<Int>, rank: Int)] = []
        for (rank, part) in parts.enumerated() where seen.insert(part).inserted {
            all += part.ranges.map { ($0, rank) }
        }
        all.sort { $0.range.lowerBound < $1.range.lowerBound }
        ranges = []
        var previous = 0
        for (range, rank) in all {
            if let last = ranges.last, range.lowerBound <= last.upperBound {
                guard range.lowerBound == last.upperBound else {
                    throw CairnError(
                        .mismatch, "two ranks have the same samples left",
                        .init(
                            rank: rank, found: "samples \(range), of which rank \(previous) has some too",
                            advice: "only replicas may have the same left, and then all of it"))
                }
                ranges[ranges.count - 1] = last.lowerBound..<range.upperBound
            } else {
                ranges.append(range)
            }
            previous = rank
        }
    }

    /// What the ranks of a checkpoint had left together. Opens every rank file's header: one rank of a large job does
    /// it and tells the others.
    ///
    /// - Parameter name: The value of each rank that holds its own.
    /// - Throws: ``CairnError/Code/notFound`` for a rank without it, ``CairnError/Code/malformed`` for one that is not a
    ///   ``value``, as ``init(gathering:)`` for ranks that contradict each other; naming the rank.
    public init(reading reader: CairnReader, value name: String) throws(CairnError) {
        var parts: [RemainingSamples] = []
        for rank in reader.manifest.files.indices {
            let values = try reader.values(ofRank: rank)
            guard let value = values.first(where: { ExactString($0.name) == ExactString(name) })?.value else {
                throw CairnError(
                    .notFound, "a rank has no such value", .init(file: reader.source, tensor: name, rank: rank))
            }
            do throws(CairnError) {
                parts.append(try RemainingSamples(value))
            } catch {
                throw error.adding(.init(file: reader.source, tensor: name, rank: rank))
            }
        }
        do throws(CairnError) {
            try self.init(gathering: parts)
        } catch {
            throw error.adding(.init(file: reader.source, tensor: name))
        }
    }

    /// As a value to store: the bounds of the ranges, one behind the other.
    public var value: Value {
        .list(ranges.flatMap { [.integer(Int64($0.lowerBound)), .integer(Int64($0.upperBound))] })
    }

    /// From what ``value`` made.
    ///
    /// - Throws: ``CairnError/Code/malformed`` for anything else.
    public init(_ value: Value) throws(CairnError) {
        guard case .list(let elements) = value, elements.count % 2 == 0 else { throw Self.malformed("\(value)") }
        ranges = []
        var end = -1
        for index in stride(from: 0, to: elements.count, by: 2) {
            guard case .integer(let low) = elements[index], case .integer(let high) = elements[index + 1],
                let lower = Int(exactly: low), let upper = Int(exactly: high), lower > end, lower < upper
            else { throw Self.malformed("\(elements[index]), \(elements[index + 1])") }
            ranges.append(lower..<upper)
            end = upper
        }
    }

    private static func malformed(_ found: String) -> CairnError {
        CairnError(
            .malformed, "what samples are left is not a list of ranges",
            .init(expected: "ascending bounds of ranges that do not touch", found: String(found.prefix(80))))
    }
}
