public import CairnBase

extension UniversalSpec {
    /// Checks all that can be checked without a checkpoint: names, patterns, expressions, counts.
    ///
    /// - Throws: ``CairnError/Code/invalidArgument``, naming the rule and what is wrong with it.
    public func validate() throws(CairnError) { _ = try CompiledSpecification(self) }
}

/// What can be said of a specification as a whole.
enum SpecificationValidation {
    /// Puts what failed before the message.
    static func inContext(_ location: String, _ body: () throws(CairnError) -> Void) throws(CairnError) {
        do throws(CairnError) {
            try body()
        } catch {
            throw CairnError(error.code, "\(location): \(error.message)", error.context, cause: error.cause)
        }
    }

    static func checkNames(_ specification: UniversalSpec) throws(CairnError) {
        try checkDistinct(specification.axes.map(\.name) + specification.parameters.map(\.name), "axis or parameter")
        for name in specification.axes.map(\.name) + specification.parameters.map(\.name) {
            guard IdentifierText.isName(name), name != "fqn", name != "roundup" else {
                throw CairnError(
                    .invalidArgument, "an axis or a parameter has no proper name",
                    .init(expected: "letters, digits and \"_\"", found: name.debugDescription))
            }
        }
        for axis in specification.axes {
            if let size = axis.size, size < 1 {
                throw CairnError(.invalidArgument, "the mesh axis \"\(axis.name)\" has size \(size)")
            }
        }
        try checkDistinct(specification.rules.map(\.name), "rule")
        try checkDistinct(specification.moments.map(\.name), "moment")
        try checkDistinct(specification.buffers.map(\.name), "flat buffer")
        let axes = Set(specification.axes.map(\.name))
        for moment in specification.moments {
            try inContext("moment \"\(moment.name)\"") { () throws(CairnError) in
                for text in [moment.from, moment.to] {
                    guard try NameTemplate(text).captureNames == ["fqn"] else {
                        throw CairnError(
                            .invalidArgument, "an optimizer moment's name has {fqn} as its only field",
                            .init(found: text.debugDescription))
                    }
                }
                for step in moment.placement { try check(axis: step.axis, axes) }
                try checkDistinct(moment.placement.map(\.axis), "step for axis")
            }
        }
        for buffer in specification.buffers {
            try inContext("flat buffer \"\(buffer.name)\"") { () throws(CairnError) in
                try check(axis: buffer.axis, axes)
                for presence in buffer.present {
                    try check(axis: presence.axis, axes)
                    if presence.axis == buffer.axis {
                        throw CairnError(.invalidArgument, "it is cut over the axis on which it is present in part")
                    }
                }
                try checkDistinct(buffer.members.map(\.name), "member")
            }
        }
    }

    static func check(axis: String, _ axes: Set<String>) throws(CairnError) {
        guard axes.contains(axis) else {
            throw CairnError(
                .invalidArgument, "the mesh has no axis \"\(axis)\"",
                .init(expected: axes.sorted().joined(separator: ", ")))
        }
    }

    static func checkDistinct(_ names: [String], _ what: String) throws(CairnError) {
        var seen: Set<ExactString> = []
        for name in names {
            guard !name.isEmpty else { throw CairnError(.invalidArgument, "a \(what) has an empty name") }
            guard seen.insert(ExactString(name)).inserted else {
                throw CairnError(
                    .invalidArgument, "there are two of the name \"\(name)\"", .init(expected: "one \(what)"))
            }
        }
    }
}
