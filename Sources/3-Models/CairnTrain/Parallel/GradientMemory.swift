internal import CairnBase
internal import CairnCommunication
internal import CairnLayout
internal import CairnTensor

/// A rank's gradients, ordered so that what the ranks of data parallelism share lies rank after rank.
///
/// The same memory carries the new weights back: an owner's gradients are done with once it has updated.
struct GradientMemory: Sendable {
    /// A stretch that is reduced by one call.
    struct Section: Sendable {
        /// Where it begins, in floats.
        var start: Int
        /// How many floats belong to each rank of data parallelism; `nil` when each needs all of them.
        var counts: [Int]?
        var count: Int
        /// The rank's parameters in it, by index.
        var parameters: [Int]
        /// Whether they are experts', which the ranks of expert parallelism have none of in common.
        var isExperts: Bool
    }

    let sections: [Section]
    /// Where each of the rank's parameters has its gradient.
    let offsets: [Int]
    let count: Int
    let base: SharedElements<Float>
    private let arena: Arena

    /// - Parameter parameters: this rank's, with who keeps their state.
    init(
        _ parameters: [(specification: ParameterSpecification, stateOwner: PlacementPlan.StateOwner)], dataCount: Int,
        _ arena: Arena
    ) {
        var sections: [Section] = []
        var offsets = [Int](repeating: 0, count: parameters.count)
        var end = 0
        func close(_ members: [Int], count: Int, counts: [Int]?) {
            guard let first = members.first else { return }
            let isExperts = parameters[first].specification.expert != nil
            sections.append(
                Section(start: end, counts: counts, count: count, parameters: members, isExperts: isExperts))
            end += count
        }
        /// Places tensors one behind the other, each in whole cache lines; returns the room that they take.
        func place(_ members: [Int], after: Int) -> Int {
            var size = 0
            for index in members {
                offsets[index] = end + after + size
                size += parameters[index].specification.shape.elementCount.dividedRoundingUp(by: 16) * 16
            }
            return size
        }
        func members(_ stateOwner: PlacementPlan.StateOwner, ofExperts isExperts: Bool) -> [Int] {
            parameters.indices.filter {
                parameters[$0].stateOwner == stateOwner && (parameters[$0].specification.expert != nil) == isExperts
            }
        }

        for isExperts in [false, true] {
            let kept = members(.all, ofExperts: isExperts)
            close(kept, count: place(kept, after: 0), counts: nil)
        }
        var buffers: [Int: [Int]] = [:]
        for index in parameters.indices {
            guard case .stretch(_, let buffer) = parameters[index].stateOwner else { continue }
            buffers[buffer, default: []].append(index)
        }
        for (_, members) in buffers.sorted(by: { $0.key < $1.key }) {
            var part = 0
            for index in members {
                guard case .stretch(let flattening, _) = parameters[index].stateOwner,
                    case .equal(let size) = flattening.partition
                else { continue }
                offsets[index] = end + flattening.start
                part = size
            }
            close(members, count: part * dataCount, counts: Array(repeating: part, count: dataCount))
        }
        for isExperts in [false, true] {
            let owned = (0..<dataCount).map { members(.one($0), ofExperts: isExperts) }
            var counts: [Int] = []
            for members in owned { counts.append(place(members, after: counts.reduce(0, +))) }
            close(owned.flatMap(\.self), count: counts.reduce(0, +), counts: counts)
        }

        self.sections = sections
        self.offsets = offsets
        self.arena = arena
        count = end
        base = SharedElements(UnsafeMutableBufferPointer(start: arena.floats(end), count: end))
    }

    var pointers: GradientPointers { GradientPointers(offsets.map { address($0) }) }

    func address(_ offset: Int) -> UnsafeMutablePointer<Float> {
        guard let start = base.elements.baseAddress else { preconditionFailure("gradients without memory") }
        return start + offset
    }

    func clear() { base.elements.update(repeating: 0) }

    /// Sums the gradients over the ranks that have other examples; each gets those that it needs.
    ///
    /// An expert has seen the examples of all ranks that the experts are sharded over.
    func reduce(over groups: RankGroups) throws(CairnError) {
        let data = groups.data
        for section in sections {
            let values = UnsafeMutableBufferPointer(start: address(section.start), count: section.count)
            if groups.experts.count > 1, !section.isExperts { try groups.experts.communicator.allReduceSum(values) }
            guard data.count > 1 else { continue }
            if let counts = section.counts {
                try data.communicator.reduceScatterSum(values, counts: counts)
            } else {
                try data.communicator.allReduceSum(values)
            }
        }
    }

    /// Where the new elements of a parameter of a shared section travel, from element `first` on.
    func weightAddress(of parameter: Int, in section: Section, first: Int, width: Int) -> UnsafeMutableRawPointer {
        UnsafeMutableRawPointer(address(section.start)) + (offsets[parameter] - section.start + first) * width
    }

    /// Spreads the new weights of a shared section, `width` bytes an element, from their owners to all.
    func gatherWeights(of section: Section, width: Int, over data: RankGroups.Axis) throws(CairnError) {
        guard let counts = section.counts else { return }
        try data.communicator.allGather(
            UnsafeMutableRawBufferPointer(start: address(section.start), count: section.count * width),
            counts: counts.map { $0 * width })
    }
}
