import CairnBase
package import CairnKeeper
import CairnStorage

/// A read of an object of another host, or of a lost one.
struct GroupRead {
    var object: KeeperRemoteObject
    var range: Range<Int>
    /// Where the bytes go.
    var collected: [UInt8] = []
    var memory: KeptMemory?
    var pieces: [Piece] = []
    var next = 0
    var open = 0

    /// A part of one block of a bundle, in whole cells; or a part of an object that is in no bundle.
    struct Piece {
        /// In the object, or in the bundle.
        var range: Range<Int>
        var block = 0
        /// In the block.
        var blockRange = 0..<0
        /// What has come of the stripe's rows, when it is being rebuilt.
        var rows: [Int: [UInt8]] = [:]
        var asked: Set<Int> = []
        var failed: Set<Int> = []
        var isDone = false
    }
}

extension GroupMember {
    private static let windowCount = 8
    private static let greatestRead = 64 << 20

    /// Reads bytes of an object that ``beginFind(_:key:)`` has found.
    package mutating func beginRead(_ job: KeeperTable.JobName, _ object: KeeperRemoteObject, _ range: Range<Int>) -> Int {
        beginRead(job, object, range, for: .caller)
    }

    @discardableResult
    mutating func beginRead(
        _ job: KeeperTable.JobName, _ object: KeeperRemoteObject, _ range: Range<Int>, for purpose: Operation.Purpose
    ) -> Int {
        var read = GroupRead(object: object, range: range)
        if case .rebuild(_, _, let memory) = purpose { read.memory = memory }
        let number = begin(Operation(job: job, kind: .read(read), purpose: purpose))
        guard range.lowerBound >= 0, range.upperBound <= object.byteCount, (0..<layout.memberCount).contains(object.member),
            read.memory != nil || range.count <= max(Self.greatestRead, 256 << 20)
        else {
            finish(number, .failed(CairnError(.invalidArgument, "no such part of the object", .init(file: object.key))))
            return number
        }
        if let place = object.place {
            let step = GroupStep(job: job, step: place.step, saveID: place.saveID)
            guard let state = steps[step], let geometry = state.geometry, let descriptor = state.descriptors[object.member],
                let end = place.offset.adding(checked: range.upperBound), end <= descriptor.byteCount
            else {
                finish(number, .failed(CairnError(.notFound, "the save was deleted", .init(file: object.key))))
                return number
            }
            read.pieces = Self.pieces(geometry, descriptor, place.offset + range.lowerBound..<end)
        } else {
            var start = range.lowerBound
            while start < range.upperBound {
                let end = min(start + (1 << 20), range.upperBound)
                read.pieces.append(.init(range: start..<end))
                start = end
            }
        }
        if read.memory == nil { read.collected = [UInt8](repeating: 0, count: range.count) }
        operations[number]?.kind = .read(read)
        goOn(number)
        return number
    }

    /// The parts of blocks, in whole cells, that have a range of a bundle.
    private static func pieces(
        _ geometry: SaveGeometry, _ descriptor: BundleDescriptor, _ range: Range<Int>
    ) -> [GroupRead.Piece] {
        var pieces: [GroupRead.Piece] = []
        var position = range.lowerBound
        while position < range.upperBound {
            let block = position / geometry.block
            let start = (position - block * geometry.block) / geometry.grid * geometry.grid
            let rest = (range.upperBound - block * geometry.block).dividedRoundingUp(by: geometry.grid) * geometry.grid
            let blockRange = start..<min(start + geometry.portion, rest, geometry.block)
            let part = geometry.bundleRange(blockRange, ofBlock: block, in: descriptor)
            pieces.append(.init(range: part, block: block, blockRange: blockRange))
            position = block * geometry.block + blockRange.upperBound
        }
        return pieces
    }

    /// Starts pieces while there is room in the window, and ends the read after the last.
    private mutating func goOn(_ number: Int) {
        while let operation = operations[number], case .read(let read) = operation.kind {
            if read.next == read.pieces.count, read.open == 0 {
                return finish(number, read.memory == nil ? .bytes(read.collected) : .done)
            }
            guard read.next < read.pieces.count, read.open < Self.windowCount else { return }
            change(number) { read in
                read.next += 1
                read.open += 1
            }
            start(number, read.next)
        }
    }

    private mutating func change(_ number: Int, _ body: (inout GroupRead) -> Void) {
        guard case .read(var read)? = operations[number]?.kind else { return }
        // The value is moved out, so that its bytes are not copied.
        operations[number]?.kind = .delete(waiting: [])
        body(&read)
        operations[number]?.kind = .read(read)
    }

    private func readState(_ number: Int) -> GroupRead? {
        guard case .read(let read)? = operations[number]?.kind else { return nil }
        return read
    }

    private func step(of number: Int) -> GroupStep? {
        guard let read = readState(number), let place = read.object.place, let job = operations[number]?.job else { return nil }
        return GroupStep(job: job, step: place.step, saveID: place.saveID)
    }

    private mutating func start(_ number: Int, _ index: Int) {
        guard let read = readState(number), let job = operations[number]?.job else { return }
        let piece = read.pieces[index]
        let member = read.object.member
        guard let step = step(of: number) else {
            let request = GroupMessage.read(
                job, key: read.object.key, modified: read.object.modified, offset: piece.range.lowerBound,
                count: piece.range.count)
            if !ask(member, request, .piece(number, piece: index, row: nil)) {
                finish(number, .failed(unreachable(read.object.key, [member], "the file")))
            }
            return
        }
        if member == own, let descriptor = steps[step]?.descriptors[own],
            let bytes = bundleBytes(step, descriptor.items, piece.range), descriptor.isRight(bytes, at: piece.range.lowerBound)
        {
            return complete(number, index, bytes)
        }
        let request = GroupMessage.bundle(step, offset: piece.range.lowerBound, count: piece.range.count)
        if !ask(member, request, .piece(number, piece: index, row: nil)) { rebuild(number, index) }
    }

    mutating func read(_ number: Int, _ index: Int, _ row: Int?, _ answer: GroupMessage?, from peer: Int) {
        guard let read = readState(number), !read.pieces[index].isDone else { return }
        let piece = read.pieces[index]
        guard let step = step(of: number) else {
            if case .bytes(let bytes)? = answer, bytes.count == piece.range.count { return complete(number, index, bytes) }
            let error =
                answer == nil
                ? unreachable(read.object.key, [peer], "the file")
                : CairnError(.notFound, "the object was deleted or replaced", .init(file: read.object.key))
            return finish(number, .failed(error))
        }
        guard let row else {
            if let bytes = believed(answer, step, read.object.member, piece.range) { return complete(number, index, bytes) }
            return rebuild(number, index)
        }
        let bytes = rowBytes(answer, step, row, piece, read.object.member, peer)
        change(number) { read in
            read.pieces[index].asked.remove(row)
            if let bytes { read.pieces[index].rows[row] = bytes } else { read.pieces[index].failed.insert(row) }
        }
        rebuild(number, index)
    }

    /// The bytes of a row of a piece's stripe, padded with zeros; `nil` for wrong ones.
    private mutating func rowBytes(
        _ answer: GroupMessage?, _ step: GroupStep, _ row: Int, _ piece: GroupRead.Piece, _ owner: Int, _ peer: Int
    ) -> [UInt8]? {
        guard let state = steps[step], let geometry = state.geometry else { return nil }
        guard row < layout.dataCount else {
            // Nothing says what is right of a parity; what is rebuilt with it is checked.
            guard case .bytes(let bytes)? = answer, bytes.count == piece.blockRange.count else { return nil }
            return bytes
        }
        guard let descriptor = state.descriptors[peer] else { return nil }
        let part = geometry.bundleRange(piece.blockRange, ofBlock: row, in: descriptor)
        guard var bytes = believed(answer, step, peer, part) else { return nil }
        bytes += [UInt8](repeating: 0, count: piece.blockRange.count - bytes.count)
        return bytes
    }

    /// Rebuilds a piece from the other rows of its stripe, as they come.
    private mutating func rebuild(_ number: Int, _ index: Int) {
        guard let step = step(of: number) else { return }
        while let read = readState(number), !read.pieces[index].isDone {
            guard let state = steps[step], let geometry = state.geometry else {
                return finish(number, .failed(CairnError(.notFound, "the save was deleted", .init(file: read.object.key))))
            }
            let piece = read.pieces[index]
            if piece.rows.count == layout.dataCount { return combine(number, index, step) }
            if piece.rows.count + piece.asked.count == layout.dataCount { return }
            let stripe = layout.stripe(ofBlock: piece.block, of: read.object.member)
            let rows = (0..<layout.memberCount).filter { row in
                row != piece.block && piece.rows[row] == nil && !piece.asked.contains(row) && !piece.failed.contains(row)
                    && isAvailable(layout.member(ofRow: row, in: stripe))
            }
            // What is here costs nothing.
            guard let row = rows.first(where: { layout.member(ofRow: $0, in: stripe) == own }) ?? rows.first else {
                if !piece.asked.isEmpty { return }
                return finish(number, .failed(beyondRepair(read, stripe)))
            }
            let member = layout.member(ofRow: row, in: stripe)
            let request: GroupMessage
            if row < layout.dataCount {
                guard let descriptor = state.descriptors[member] else { return }
                let part = geometry.bundleRange(piece.blockRange, ofBlock: row, in: descriptor)
                request = .bundle(step, offset: part.lowerBound, count: part.count)
            } else {
                request = .parity(
                    step, stripe: stripe, offset: piece.blockRange.lowerBound, count: piece.blockRange.count)
            }
            if member == own {
                let bytes = rowBytes(answer(request), step, row, piece, read.object.member, own)
                change(number) { read in
                    if let bytes { read.pieces[index].rows[row] = bytes } else { read.pieces[index].failed.insert(row) }
                }
            } else if ask(member, request, .piece(number, piece: index, row: row)) {
                change(number) { $0.pieces[index].asked.insert(row) }
            }
        }
    }

    private mutating func combine(_ number: Int, _ index: Int, _ step: GroupStep) {
        guard let read = readState(number) else { return }
        let piece = read.pieces[index]
        let rows = piece.rows.keys.sorted()
        var bytes = [UInt8](repeating: 0, count: piece.blockRange.count)
        if let coefficients = try? code.coefficients(of: piece.block, from: rows) {
            for (row, coefficient) in zip(rows, coefficients) {
                if let source = piece.rows[row] { GroupCode.add(source, times: coefficient, to: &bytes) }
            }
            bytes.removeLast(bytes.count - piece.range.count)
            if steps[step]?.descriptors[read.object.member]?.isRight(bytes, at: piece.range.lowerBound) == true {
                return complete(number, index, bytes)
            }
        }
        // A parity is wrong: the data was checked.
        let stripe = layout.stripe(ofBlock: piece.block, of: read.object.member)
        guard let wrong = rows.last, wrong >= layout.dataCount else {
            return finish(number, .failed(beyondRepair(read, stripe)))
        }
        peers[layout.member(ofRow: wrong, in: stripe)].wrongAnswers += 1
        change(number) { read in
            read.pieces[index].rows[wrong] = nil
            read.pieces[index].failed.insert(wrong)
        }
        rebuild(number, index)
    }

    /// What is said when too few rows are left: nobody knows what a member that is away has; one that is there has lost it.
    private func beyondRepair(_ read: GroupRead, _ stripe: Int) -> CairnError {
        let away = unavailable
        guard away.isEmpty else { return unreachable(read.object.key, away, "the file") }
        return CairnError(
            .incomplete, "more members of the group have lost their part than its parity covers",
            .init(
                file: read.object.key, expected: "at most \(layout.parityCount) of \(layout.memberCount) members lost",
                advice: "go on from another tier"))
    }

    private mutating func complete(_ number: Int, _ index: Int, _ bytes: [UInt8]) {
        var failure: CairnError?
        change(number) { read in
            let start = read.object.place?.offset ?? 0
            let wanted = start + read.range.lowerBound..<start + read.range.upperBound
            let part = read.pieces[index].range.clamped(to: wanted)
            let source = part.lowerBound - read.pieces[index].range.lowerBound
            let target = part.lowerBound - wanted.lowerBound
            if !part.isEmpty {
                let slice = bytes[source..<source + part.count]
                if let memory = read.memory {
                    do throws(CairnError) {
                        try memory.write(slice.count == bytes.count ? bytes : Array(slice), at: target)
                    } catch {
                        failure = error
                    }
                } else {
                    read.collected.replaceSubrange(target..<target + part.count, with: slice)
                }
            }
            read.pieces[index].isDone = true
            read.pieces[index].rows = [:]
            read.open -= 1
        }
        if let failure { return finish(number, .failed(failure)) }
        goOn(number)
    }
}
