import CCairnKernels
import CairnBase
import CairnCheckpoint
import CairnTensor

extension PreparedTensor {
    /// Fills `destination` with a region, computed in chunks on several threads.
    func read(_ region: Region, into destination: inout MutableRawSpan) throws {
        let evaluation = try evaluated()
        let tensorCount = if case .tasks(let tasks, _, _) = evaluation { tasks.count + 2 } else { 2 }
        let widest = operands.map(\.description.scalarType.bitWidth).max() ?? 8
        let unit = TensorDescription(
            name: "",
            scalarType: widest > 32 || evaluation.isDouble ?? isDouble ? .f64 : widest < 8 ? description.scalarType : .f32,
            shape: region.shape)
        let slabs = Array(SlabSequence(of: unit, byteLimit: chunkByteCount(tensorCount: tensorCount)))
        var begins = [0]
        for slab in slabs {
            begins.append(begins[begins.count - 1] + (try Tensor.byteCount(description.scalarType, slab.shape)))
        }
        try destination.withUnsafeMutableBytes { bytes in
            let memory = SharedMemory(bytes: bytes)
            try ThreadPool.shared.forEach(slabs.count, width: options.concurrency) { [begins] index in
                try self.options.interruption()
                let part = try slabs[index].shifted(by: region.offsets)
                let target = UnsafeMutableRawBufferPointer(rebasing: memory.bytes[begins[index]..<begins[index + 1]])
                try self.workspaces.with(Workspace()) { try self.evaluate(evaluation, part, into: target, $0) }
            }
        }
    }

    private func evaluate(
        _ evaluation: TensorEvaluation, _ region: Region, into target: UnsafeMutableRawBufferPointer,
        _ workspace: Workspace
    ) throws {
        switch evaluation {
        case .copy(let operand):
            try copy(operand, region, into: target, workspace)
        case .combination(let coefficients, let divisor, let isDouble):
            try compute(region, isDouble: isDouble, into: target, workspace) { sums in
                for (index, operand) in operands.enumerated() {
                    let x = try operand.elements(of: region) { workspace.buffer(1, byteCount: $0) }
                    cairn_merge_add(
                        kernelLevel, isDouble ? 1 : 0, x, coefficients[index], index == 0 ? 1 : 0, sums,
                        region.elementCount)
                }
                if let divisor {
                    cairn_merge_divide(kernelLevel, isDouble ? 1 : 0, divisor, sums, region.elementCount)
                }
            }
        case .tasks(let tasks, let rule, let isDouble):
            try compute(region, isDouble: isDouble, into: target, workspace) { sums in
                try merge(tasks, rule, region, isDouble: isDouble, into: sums, workspace)
            }
        case .updated(let updates):
            try compute(region, isDouble: isDouble, into: target, workspace) { sums in
                try apply(updates, region, into: sums, workspace)
            }
        }
    }

    /// Fills `sums` with operand 0 after some updates.
    func apply(
        _ updates: [PreparedUpdate], _ region: Region, into sums: UnsafeMutableRawPointer, _ workspace: Workspace
    ) throws {
        let x = try operands[0].elements(of: region) { workspace.buffer(1, byteCount: $0) }
        cairn_merge_add(kernelLevel, isDouble ? 1 : 0, x, 1, 1, sums, region.elementCount)
        for update in updates {
            try update.apply(to: sums, region, of: description.shape, isDouble: isDouble, workspace)
        }
    }

    /// Has `body` fill memory of the precision that is computed in, and converts it where the result has another type.
    private func compute(
        _ region: Region, isDouble: Bool, into target: UnsafeMutableRawBufferPointer, _ workspace: Workspace,
        _ body: (UnsafeMutableRawPointer) throws -> Void
    ) throws {
        let working: ScalarType = isDouble ? .f64 : .f32
        let width = isDouble ? 8 : 4
        let isDirect =
            description.scalarType == working
            && UInt(bitPattern: target.baseAddress).isMultiple(of: UInt(width))
        let memory = isDirect ? target : workspace.buffer(0, byteCount: region.elementCount * width)
        guard let sums = memory.baseAddress else { return }
        try body(sums)
        guard !isDirect else { return }
        var span = target.mutableBytes
        let loss = try ScalarConversion.convertNotingLoss(
            UnsafeRawBufferPointer(memory).bytes, from: working, into: &span, to: description.scalarType)
        note(loss, region, from: working)
    }

    private func copy(
        _ chosen: Int, _ region: Region, into target: UnsafeMutableRawBufferPointer, _ workspace: Workspace
    ) throws {
        let operand = operands[chosen]
        let bytes = try operand.bytes(of: region) { workspace.buffer(0, byteCount: $0) }
        for (index, other) in operands.enumerated() where index != chosen && options.otherTensors == .equal {
            let others = try other.bytes(of: region) { workspace.buffer(1, byteCount: $0) }
            guard bytes.elementsEqualAsMemory(others) else {
                throw CairnError(
                    .mismatch, "the inputs differ in a tensor that has no average",
                    .init(
                        tensor: description.name, expected: "the same in \(operand.reader.source)",
                        found: "another in \(other.reader.source)",
                        advice: "take the first or the last input's, or leave the tensor out"))
            }
        }
        var span = target.mutableBytes
        let loss = try ScalarConversion.convertNotingLoss(
            bytes.bytes, from: operand.description.scalarType, into: &span, to: description.scalarType)
        note(loss, region, from: operand.description.scalarType)
    }

    private func note(_ loss: ConversionLoss, _ region: Region, from type: ScalarType) {
        ledger.add(
            loss, in: region, of: description.name, shape: description.shape, from: type, to: description.scalarType)
    }

    private func merge(
        _ tasks: [TaskState], _ rule: TaskRule, _ region: Region, isDouble: Bool,
        into sums: UnsafeMutableRawPointer, _ workspace: Workspace
    ) throws {
        let base = try operands[0].elements(of: region) { workspace.buffer(1, byteCount: $0) }
        var vectors: [cairn_task] = []
        for (index, task) in tasks.enumerated() {
            let x = try operands[index + 1].elements(of: region) { workspace.buffer(2 + index, byteCount: $0) }
            vectors.append(cairn_task(x: x, sparsity: task.sparsity, weight: task.weight))
        }
        let combined = cairn_task_rule(
            takes_majority: rule.takesMajority ? 1 : 0, normalizes: rule.normalizes ? 1 : 0,
            least_divisor: rule.leastDivisor, lambda: rule.lambda)
        // The kernels count elements from a run's beginning, so each run of the region is one call.
        var runs = RegionRuns(of: region, in: description.shape)
        let widths = operands.map { $0.description.scalarType.byteWidth ?? 1 }
        var done = 0
        while let first = runs.next() {
            let moved = vectors.enumerated().map { index, vector in
                cairn_task(
                    x: vector.x.advanced(by: done, width: widths[index + 1]), sparsity: vector.sparsity,
                    weight: vector.weight)
            }
            cairn_merge_tasks(
                kernelLevel, isDouble ? 1 : 0, base.advanced(by: done, width: widths[0]), moved, Int32(moved.count),
                combined, UInt64(first), sums + done * (isDouble ? 8 : 4), runs.runLength)
            done += runs.runLength
        }
    }
}

/// A tensor of an input, as the evaluation of a merge reads it.
struct MergeOperand: Sendable {
    let reader: any CheckpointReader
    let description: TensorDescription
    /// The type's number for the kernels; `nil` for one that is only copied.
    let kernelType: Int32?
    /// The tensor over the mapped file, where that was asked for and can be had.
    let mapped: Tensor?

    init(_ reader: any CheckpointReader, _ description: TensorDescription, maps: Bool) throws(CairnError) {
        self.reader = reader
        self.description = description
        kernelType = description.scalarType.kernelNumber
        mapped = maps ? try reader.mapped(description.name) : nil
    }

    /// The bytes of a region: where they are, if the tensor is mapped and the region one run of it, else read into `buffer`.
    ///
    /// - Parameter buffer: Gives memory of a size.
    func bytes(
        of region: Region, in buffer: (Int) -> UnsafeMutableRawBufferPointer
    ) throws -> UnsafeRawBufferPointer {
        let byteCount = try Tensor.byteCount(description.scalarType, region.shape)
        if let mapped, let width = description.scalarType.byteWidth {
            var runs = RegionRuns(of: region, in: description.shape)
            if runs.count == 1, let begin = runs.next() {
                return UnsafeRawBufferPointer(
                    start: mapped.storage.base + mapped.byteOffset + begin * width, count: byteCount)
            }
        }
        let memory = buffer(byteCount)
        var span = memory.mutableBytes
        try reader.read(description.name, region: region, into: &span)
        return UnsafeRawBufferPointer(memory)
    }

    /// The same for the kernels.
    func elements(
        of region: Region, in buffer: (Int) -> UnsafeMutableRawBufferPointer
    ) throws -> cairn_elements {
        cairn_elements(bytes: try bytes(of: region, in: buffer).baseAddress, type: kernelType ?? 0)
    }
}

extension cairn_elements {
    /// No elements: for a base that there is not.
    static var none: cairn_elements { cairn_elements(bytes: nil, type: 0) }

    /// The same from an element on.
    func advanced(by count: Int, width: Int) -> cairn_elements {
        cairn_elements(bytes: bytes.map { $0 + count * width }, type: type)
    }
}
