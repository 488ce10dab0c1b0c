import CairnBase
import CairnCheckpoint
import CairnKeeper
import CairnStorage

/// How a save comes to be protected: the descriptions of all bundles, the own bundle, and the parity that this member holds.
extension GroupMember {
    /// How many portions of a parity are asked for at once.
    private static let windowCount = 4

    /// Goes on with a save as far as is possible now.
    mutating func advance(_ step: GroupStep) {
        guard let state = steps[step], !state.isComplete else { return }
        if state.failure != nil {
            guard now >= state.nextTry else { return }
            steps[step]?.failure = nil
        }
        collectDescriptors(step)
        guard steps[step]?.geometry != nil else { return }
        checkBundle(step)
        advanceParities(step)
        noteIfComplete(step)
    }

    private mutating func fail(_ step: GroupStep, _ error: CairnError) {
        guard steps[step] != nil else { return }
        steps[step]?.failure = error
        steps[step]?.nextTry = now + options.timeout
        mustTell = true
    }

    private mutating func noteIfComplete(_ step: GroupStep) {
        guard steps[step]?.isComplete == true, settled.insert(step).inserted else { return }
        mustTell = true
        noteProtection(step)
    }

    // MARK: - Descriptions

    private mutating func collectDescriptors(_ step: GroupStep) {
        guard let state = steps[step], state.geometry == nil else { return }
        for member in 0..<layout.memberCount where state.descriptors[member] == nil {
            if member == own, describeOwn(step) { continue }
            guard now >= state.nextAsk[member] else { continue }
            // Who it is about is asked first, then those who may have heard of it.
            let order = (0..<layout.memberCount).map { (state.askedOf[member] + $0) % layout.memberCount }
            let peers = order.filter { $0 != own && isAvailable($0) }
            guard let peer = peers.first(where: { !state.refused[member].contains($0) }) else {
                steps[step]?.exhausted[member] = now
                steps[step]?.refused[member] = []
                if !peers.isEmpty { steps[step]?.nextAsk[member] = now + pause }
                continue
            }
            steps[step]?.nextAsk[member] = now + pause
            steps[step]?.askedOf[member] = (peer + 1) % layout.memberCount
            _ = ask(peer, .describe(step, member: member), .descriptor(step, member: member))
        }
        settleGeometry(step)
    }

    /// Describes what this member has of a save; false if that must be learnt from others.
    mutating func describeOwn(_ step: GroupStep) -> Bool {
        guard let state = steps[step] else { return true }
        if state.describing != nil { return true }
        let items = access.change { table in
            state.files.keys.sorted(by: StorageKey.precedes).compactMap { key -> BundleDescriptor.Item? in
                guard let object = table.jobs[step.job]?[key], !object.isCopy else { return nil }
                return .init(key: key, byteCount: object.byteCount)
            }
        }
        if items.isEmpty {
            // Nothing may be right: others have it all. Or it was lost, which those know who have heard of it before.
            let known = Set(state.descriptors.compactMap { $0 }.flatMap { $0.items.map(\.key) })
            guard state.files.keys.allSatisfy(known.contains) else { return false }
        }
        do throws(CairnError) {
            let byteCount = try BundleDescriptor.total(of: items)
            steps[step]?.describing = .init(
                items: items, byteCount: byteCount, cell: try BundleDescriptor.cell(for: byteCount))
        } catch {
            fail(step, error)
        }
        return true
    }

    /// Computes checksums of own bundles for a moment.
    ///
    /// - Returns: Whether there is more to do.
    package mutating func work() -> Bool {
        guard let step = steps.keys.filter({ steps[$0]?.describing != nil }).min(by: precedes),
            var describing = steps[step]?.describing
        else { return false }
        steps[step]?.describing = nil
        let start = describing.checksums.count * describing.cell
        let range = start..<min(describing.byteCount, start + max(describing.cell, 4 << 20))
        if !range.isEmpty {
            guard let bytes = bundleBytes(step, describing.items, range) else {
                // An object went meanwhile: the save is being deleted, or replaced.
                fail(step, CairnError(.notFound, "a file of the save has gone", .init(found: "step \(step.step)")))
                return true
            }
            var offset = 0
            while offset < bytes.count {
                let end = min(offset + describing.cell, bytes.count)
                describing.checksums.append(CRC32C.checksum(bytes.span.bytes.extracting(offset..<end)))
                offset = end
            }
        }
        guard range.upperBound == describing.byteCount else {
            steps[step]?.describing = describing
            return true
        }
        do throws(CairnError) {
            steps[step]?.descriptors[own] = try BundleDescriptor(items: describing.items, checksums: describing.checksums)
            mustTell = true
            settleGeometry(step)
        } catch {
            fail(step, error)
        }
        return true
    }

    mutating func described(_ step: GroupStep, _ member: Int, _ answer: GroupMessage?, from peer: Int) {
        if case GroupMessage.none? = answer {
            // The next one is asked at once.
            steps[step]?.refused[member].insert(peer)
            steps[step]?.nextAsk[member] = now
            return
        }
        guard case .descriptor(let descriptor)? = answer, let state = steps[step], state.descriptors[member] == nil,
            descriptor.items.allSatisfy({ state.files[$0.key] == $0.byteCount })
        else { return }
        // What this member has, it describes itself.
        if member == own, state.describing != nil { return }
        steps[step]?.descriptors[member] = descriptor
        settleGeometry(step)
        advance(step)
    }

    /// Once all bundles are known: how they lie, unless a file is in none.
    private mutating func settleGeometry(_ step: GroupStep) {
        guard let state = steps[step], state.geometry == nil else { return }
        let descriptors = state.descriptors.compactMap { $0 }
        guard descriptors.count == layout.memberCount else { return }
        let present = Set(descriptors.flatMap { $0.items.map(\.key) })
        guard let missing = state.files.keys.filter({ !present.contains($0) }).min(by: StorageKey.precedes) else {
            steps[step]?.geometry = SaveGeometry(descriptors, dataCount: layout.dataCount)
            return
        }
        // A description may have come from who was started again meanwhile: they are asked anew.
        for member in 0..<layout.memberCount where state.descriptors[member]?.items.isEmpty == true {
            steps[step]?.descriptors[member] = nil
        }
        fail(
            step, CairnError(.incomplete, "a file of the save was lost before the group had described it", .init(file: missing)))
    }

    // MARK: - The own bundle

    private mutating func checkBundle(_ step: GroupStep) {
        guard let state = steps[step], !state.isHere, !state.isRebuilding, now >= state.nextRebuild,
            let descriptor = state.descriptors[own]
        else { return }
        let missing = access.change { table in
            descriptor.items.first { table.jobs[step.job]?[$0.key]?.byteCount != $0.byteCount }
        }
        guard let missing else {
            steps[step]?.isHere = true
            return
        }
        guard let range = descriptor.range(of: missing.key), let memory = hold(missing.byteCount, of: step.job.user, missing.key)
        else {
            steps[step]?.nextRebuild = now + pause
            return fail(step, CairnError(.noSpace, "there is no memory for what was lost here", .init(file: missing.key)))
        }
        steps[step]?.isRebuilding = true
        let object = KeeperRemoteObject(
            key: missing.key, byteCount: missing.byteCount, modified: state.modified, member: own,
            place: .init(step: step.step, saveID: step.saveID, offset: range.lowerBound))
        beginRead(step.job, object, 0..<missing.byteCount, for: .rebuild(step, missing.key, memory))
    }

    /// An own object was rebuilt, or not.
    mutating func rebuilt(_ step: GroupStep, _ key: String, _ memory: KeptMemory, _ byteCount: Int, _ error: CairnError?) {
        steps[step]?.isRebuilding = false
        if error != nil || steps[step] == nil {
            access.change { $0.release(memory.capacity, of: step.job.user) }
            steps[step]?.nextRebuild = now + pause
            return
        }
        let modified = max(0, (steps[step]?.modified ?? 1) - 1)
        if insert(memory, byteCount, as: key, of: step.job, modified: modified, isCopy: false) {
            steps[step]?.rebuiltByteCount += byteCount
        } else {
            steps[step]?.nextRebuild = now + pause
        }
        advance(step)
    }

    // MARK: - Parity

    private mutating func advanceParities(_ step: GroupStep) {
        guard let state = steps[step], let geometry = state.geometry else { return }
        if state.parities.isEmpty, layout.parityCount > 0 {
            for stripe in layout.stripes(heldBy: own) {
                guard let index = layout.parity(of: own, in: stripe),
                    let memory = hold(geometry.block, of: step.job.user, "parity")
                else {
                    for parity in steps[step]?.parities ?? [] {
                        access.change { $0.release(parity.memory.capacity, of: step.job.user) }
                    }
                    steps[step]?.parities = []
                    return fail(
                        step,
                        CairnError(
                            .noSpace, "there is no memory for the parity of the save",
                            .init(
                                expected: "\(geometry.block * layout.parityCount) bytes",
                                advice: "start the keeper with more --memory")))
                }
                let total = (0..<layout.dataCount).reduce(0) { sum, column in
                    sum + contribution(step, stripe, column, 0..<geometry.block).count
                }
                steps[step]?.parities.append(
                    .init(stripe: stripe, index: index, memory: memory, totalByteCount: total))
            }
        }
        for index in steps[step]?.parities.indices ?? 0..<0 { pull(step, index) }
    }

    /// The part of a member's bundle that is in a range of a stripe.
    private func contribution(_ step: GroupStep, _ stripe: Int, _ column: Int, _ range: Range<Int>) -> Range<Int> {
        let member = layout.member(ofRow: column, in: stripe)
        guard let state = steps[step], let geometry = state.geometry, let descriptor = state.descriptors[member] else {
            return 0..<0
        }
        return geometry.bundleRange(range, ofBlock: column, in: descriptor)
    }

    private mutating func pull(_ step: GroupStep, _ index: Int) {
        while let state = steps[step], let geometry = state.geometry, case let parity = state.parities[index],
            parity.outstanding < Self.windowCount
        {
            let column: Int
            let offset: Int
            if let next = parity.again.first {
                guard now >= parity.nextTry else { return }
                (column, offset) = next
                steps[step]?.parities[index].again.removeFirst()
            } else {
                (column, offset) = (parity.column, parity.offset)
                guard column < layout.dataCount else { return }
                let end = offset + geometry.portion
                let range = offset..<min(end, geometry.block)
                if end >= geometry.block {
                    steps[step]?.parities[index].column += 1
                    steps[step]?.parities[index].offset = 0
                } else {
                    steps[step]?.parities[index].offset = end
                }
                if contribution(step, parity.stripe, column, range).isEmpty { continue }
            }
            let range = offset..<min(offset + geometry.portion, geometry.block)
            let part = contribution(step, parity.stripe, column, range)
            let member = layout.member(ofRow: column, in: parity.stripe)
            if ask(
                member, .bundle(step, offset: part.lowerBound, count: part.count),
                .parity(step, stripe: parity.stripe, column: column, offset: offset))
            {
                steps[step]?.parities[index].outstanding += 1
            } else {
                steps[step]?.parities[index].again.append((column, offset))
                steps[step]?.parities[index].nextTry = now + pause
                return
            }
        }
    }

    mutating func pulled(
        _ step: GroupStep, _ stripe: Int, _ column: Int, _ offset: Int, _ answer: GroupMessage?, from peer: Int
    ) {
        guard let state = steps[step], let geometry = state.geometry,
            let index = state.parities.firstIndex(where: { $0.stripe == stripe })
        else { return }
        steps[step]?.parities[index].outstanding -= 1
        let parity = state.parities[index]
        let range = offset..<min(offset + geometry.portion, geometry.block)
        let part = contribution(step, stripe, column, range)
        if let bytes = believed(answer, step, peer, part), add(bytes, at: offset, column, parity) {
            steps[step]?.parities[index].doneByteCount += bytes.count
        } else {
            steps[step]?.parities[index].again.append((column, offset))
            steps[step]?.parities[index].nextTry = now + pause
        }
        pull(step, index)
        noteIfComplete(step)
    }

    private func add(_ bytes: [UInt8], at offset: Int, _ column: Int, _ parity: StepState.Parity) -> Bool {
        do throws(CairnError) {
            var sum = try parity.memory.bytes(offset..<offset + bytes.count)
            GroupCode.add(bytes, times: code.coefficient(parity: parity.index, column: column), to: &sum)
            try parity.memory.write(sum, at: offset)
            return true
        } catch {
            return false
        }
    }

    /// The bytes of a part of a member's bundle, if they are those that its description says.
    mutating func believed(_ answer: GroupMessage?, _ step: GroupStep, _ member: Int, _ part: Range<Int>) -> [UInt8]? {
        guard case .bytes(let bytes)? = answer else { return nil }
        guard bytes.count == part.count, let descriptor = steps[step]?.descriptors[member],
            descriptor.isRight(bytes, at: part.lowerBound)
        else {
            peers[member].wrongAnswers += 1
            return nil
        }
        return bytes
    }
}
