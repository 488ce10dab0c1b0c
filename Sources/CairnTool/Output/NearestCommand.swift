import ArgumentParser

/// What a command that does not exist may have been meant to be. (Of options the argument parser says it itself.)
enum NearestCommand {
    /// How different a name may be.
    private static let greatestDistance = 2

    /// - Returns: `nil` where the commands exist, or nothing is near.
    static func advice(for arguments: [String], of root: any ParsableCommand.Type) -> String? {
        var command = root
        for argument in arguments {
            let children = command.configuration.subcommands
            guard !children.isEmpty, !argument.hasPrefix("-"), argument != "help" else { return nil }
            if let child = children.first(where: { $0._commandName == argument }) {
                command = child
                continue
            }
            let near = children.map { (name: $0._commandName, distance: distance(argument, $0._commandName)) }
                .filter { $0.distance <= greatestDistance || $0.name.hasPrefix(argument) }
                .min { $0.distance < $1.distance }
            return near.map { "cairn: there is no command '\(argument)'. Did you mean '\($0.name)'?" }
        }
        return nil
    }

    /// How many letters must be put in, left out, changed or exchanged with their neighbours to make one of the other.
    static func distance(_ first: String, _ second: String) -> Int {
        let (one, other) = (Array(first), Array(second))
        var rows = [Array(0...other.count)]
        for (row, letter) in one.enumerated() {
            var next = [row + 1]
            for (column, otherLetter) in other.enumerated() {
                var least = min(rows[row][column + 1] + 1, next[column] + 1, rows[row][column] + (letter == otherLetter ? 0 : 1))
                if row > 0, column > 0, letter == other[column - 1], one[row - 1] == otherLetter {
                    least = min(least, rows[row - 1][column - 1] + 1)
                }
                next.append(least)
            }
            rows.append(next)
        }
        return rows[one.count][other.count]
    }
}
