import CairnBase

/// Where each part of a sharded extent begins, in closed form.
struct PartBoundaries: Sendable, Hashable {
    private enum Rule: Sendable, Hashable {
        case even, chunked, balanced
        /// Of the parts and of the end.
        case starts([Int])
    }

    let parts: Int
    private let rule: Rule
    private let unit: Int

    init(_ division: Division, unit: Int, parts: Int) {
        self.parts = parts
        self.unit = unit
        switch division {
        case .even: rule = .even
        case .chunked: rule = .chunked
        case .balanced: rule = .balanced
        case .sizes(let sizes):
            var starts = [0]
            // A sum that does not fit is not an extent's; it is refused where the extent is known.
            for size in sizes { starts.append((starts[starts.count - 1]).addingReportingOverflow(size).partialValue) }
            rule = .starts(starts)
        }
    }

    /// Where part `index` of `extent` begins; the extent's end for `index == parts`.
    func start(of index: Int, in extent: Int) -> Int {
        switch rule {
        case .starts(let starts): return starts[index]
        case .even: return extent / parts * index
        case .chunked:
            let units = extent.dividedRoundingUp(by: unit)
            return position(ofUnit: units.dividedRoundingUp(by: parts) * index, of: units, in: extent)
        case .balanced:
            let units = extent.dividedRoundingUp(by: unit)
            let (each, larger) = units.quotientAndRemainder(dividingBy: parts)
            return position(ofUnit: each * index + min(index, larger), of: units, in: extent)
        }
    }

    /// What part `index` of `extent` holds.
    func range(of index: Int, in extent: Int) -> Range<Int> {
        start(of: index, in: extent)..<start(of: index + 1, in: extent)
    }

    /// The part that holds `position`, which lies inside `extent`.
    func part(at position: Int, in extent: Int) -> Int {
        (0..<parts).firstPosition { start(of: $0 + 1, in: extent) > position }
    }

    /// Parts among which every size that parts of `extent` have occurs.
    func representatives(in extent: Int) -> [Int] {
        switch rule {
        case .even: return [0]
        case .starts: return Array(0..<parts)
        case .chunked:
            let last = extent == 0 ? 0 : part(at: extent - 1, in: extent)
            return Array(Set([0, last, parts - 1]))
        case .balanced:
            // Only the last part that holds anything can end in a short unit.
            let units = extent.dividedRoundingUp(by: unit)
            let last = extent == 0 ? 0 : part(at: extent - 1, in: extent)
            return Array(Set([0, min(units % parts, parts - 1), last, max(0, last - 1), parts - 1]))
        }
    }

    /// Why `extent` cannot be sharded so, or `nil` when it can.
    func objection(to extent: Int) -> String? {
        switch rule {
        case .chunked, .balanced: return nil
        case .even:
            guard extent % parts == 0, extent / parts % unit == 0 else {
                let units = unit == 1 ? "" : " of whole units of \(unit)"
                return "\(parts) equal parts\(units)"
            }
            return nil
        case .starts(let starts):
            guard zip(starts, starts.dropFirst()).allSatisfy({ $0 <= $1 }) else { return "sizes that do not overflow" }
            return starts[parts] == extent ? nil : "sizes that sum to \(starts[parts])"
        }
    }

    private func position(ofUnit index: Int, of units: Int, in extent: Int) -> Int {
        index >= units ? extent : index * unit
    }
}
