package import CairnBase
import CairnTensor

/// The best one-to-one assignment of rows to columns.
///
/// The algorithm of Jonker and Volgenant (Computing 38, 1987): column reduction, reduction transfer and augmenting row
/// reduction assign most rows cheaply, shortest augmenting paths the rest. O(n³) at worst.
package enum LinearAssignment {
    /// Gains to begin with, all zero, for as many rows as columns.
    ///
    /// - Throws: ``CairnError/Code/noSpace`` for more than the machine has memory for.
    static func gains(count: Int) throws(CairnError) -> [Double] {
        guard let square = count.multiplied(checked: count),
            let byteCount = square.multiplied(checked: MemoryLayout<Double>.stride), byteCount <= Tensor.greatestByteCount
        else {
            throw CairnError(
                .noSpace, "there are too many units to compare each with each",
                .init(expected: "at most \(Tensor.greatestByteCount) bytes of numbers", found: "\(count) units"))
        }
        return [Double](repeating: 0, count: square)
    }

    /// The column of each row, so that the sum of the gains is greatest.
    ///
    /// - Parameter gains: `count` × `count` numbers, row by row.
    /// - Throws: ``CairnError/Code/invalidArgument`` where one is not finite: no sum is then greatest.
    package static func maximizing(_ gains: [Double], count: Int) throws(CairnError) -> [Int] {
        precondition(gains.count == count * count, "An assignment needs a square matrix.")
        guard gains.allSatisfy(\.isFinite) else {
            throw CairnError(.invalidArgument, "units with numbers that are not finite cannot be compared")
        }
        guard count > 1 else { return Array(0..<count) }
        return gains.withUnsafeBufferPointer { gains in
            guard let start = gains.baseAddress else { return [] }
            return Solver(gains: start, count: count).solve()
        }
    }
}

/// Minimises costs, which are the negated gains.
///
/// Its numbers lie in memory of its own: for thousands of units the loops below run billions of times.
private final class Solver {
    private let gains: UnsafePointer<Double>
    private let count: Int
    private let columnOfRow: UnsafeMutablePointer<Int>
    private let rowOfColumn: UnsafeMutablePointer<Int>
    /// The dual variables of the columns.
    private let price: UnsafeMutablePointer<Double>
    // Of the search for a shortest path.
    private let distance: UnsafeMutablePointer<Double>
    private let predecessor: UnsafeMutablePointer<Int>
    private let columns: UnsafeMutablePointer<Int>

    init(gains: UnsafePointer<Double>, count: Int) {
        func memory<Number>(_ value: Number) -> UnsafeMutablePointer<Number> {
            let start = UnsafeMutablePointer<Number>.allocate(capacity: count)
            start.initialize(repeating: value, count: count)
            return start
        }
        self.gains = gains
        self.count = count
        columnOfRow = memory(-1)
        rowOfColumn = memory(-1)
        price = memory(0)
        distance = memory(0)
        predecessor = memory(0)
        columns = memory(0)
    }

    deinit {
        for memory in [columnOfRow, rowOfColumn, predecessor, columns] { memory.deallocate() }
        for memory in [price, distance] { memory.deallocate() }
    }

    /// The gains of a row.
    private func row(_ row: Int) -> UnsafePointer<Double> { gains + row * count }

    func solve() -> [Int] {
        var free = reduceColumns()
        for _ in 0..<2 { free = reduceRows(free) }
        for row in free { augment(from: row) }
        return Array(UnsafeBufferPointer(start: columnOfRow, count: count))
    }

    /// Gives each column to the row where it is cheapest, if that is free; returns the rows that got none.
    private func reduceColumns() -> [Int] {
        var claims = [Int](repeating: 0, count: count)
        var least = [Double](repeating: .infinity, count: count), place = [Int](repeating: 0, count: count)
        for row in 0..<count {
            let gains = self.row(row)
            for column in 0..<count {
                let value = -gains[column]
                if value < least[column] {
                    least[column] = value
                    place[column] = row
                }
            }
        }
        for column in (0..<count).reversed() {
            price[column] = least[column]
            let row = place[column]
            claims[row] += 1
            if claims[row] == 1 {
                columnOfRow[row] = column
                rowOfColumn[column] = row
            }
        }
        var free: [Int] = []
        for row in 0..<count {
            if claims[row] == 0 {
                free.append(row)
            } else if claims[row] == 1 {
                let own = columnOfRow[row]
                let gains = self.row(row)
                var slack = Double.infinity
                for column in 0..<count where column != own { slack = min(slack, -gains[column] - price[column]) }
                price[own] -= slack
            }
        }
        return free
    }

    /// Lets free rows take the column that is cheapest for them, at most at the price of the second; returns those that
    /// are free behind that.
    private func reduceRows(_ free: [Int]) -> [Int] {
        var waiting = free, left: [Int] = []
        var next = 0
        // Rounding could let two rows take a column from each other for ever.
        var budget = 64 * count
        while next < waiting.count {
            let row = waiting[next]
            next += 1
            var (first, second) = (Double.infinity, Double.infinity)
            var (column, other) = (0, 0)
            let gains = self.row(row)
            for candidate in 0..<count {
                let value = -gains[candidate] - price[candidate]
                guard value < second else { continue }
                if value < first {
                    (second, other) = (first, column)
                    (first, column) = (value, candidate)
                } else {
                    (second, other) = (value, candidate)
                }
            }
            var owner = rowOfColumn[column]
            budget -= 1
            let isCheaper = first < second && second.isFinite
            if isCheaper {
                price[column] -= second - first
            } else if owner >= 0 {
                column = other
                owner = rowOfColumn[column]
            }
            columnOfRow[row] = column
            rowOfColumn[column] = row
            guard owner >= 0 else { continue }
            columnOfRow[owner] = -1
            if isCheaper, budget > 0 {
                next -= 1
                waiting[next] = owner
            } else {
                left.append(owner)
            }
        }
        return left
    }

    /// Assigns a free row along the shortest path of reassignments. (Dijkstra over columns)
    private func augment(from start: Int) {
        // Columns lie in three stretches: those that are done, those at the least distance, the rest.
        let first = row(start)
        for column in 0..<count {
            columns[column] = column
            predecessor[column] = start
            distance[column] = -first[column] - price[column]
        }
        var (done, scanned, last) = (0, 0, 0)
        var least = 0.0
        var end = -1
        while end < 0 {
            if scanned == last {
                done = scanned
                least = .infinity
                for index in scanned..<count {
                    let column = columns[index], value = distance[column]
                    guard value <= least else { continue }
                    if value < least {
                        last = scanned
                        least = value
                    }
                    exchange(index, last)
                    last += 1
                }
                // Not every path can be infinite: gains are finite.
                for index in scanned..<last where rowOfColumn[columns[index]] < 0 {
                    end = columns[index]
                    break
                }
                if end >= 0 { break }
            }
            let column = columns[scanned]
            scanned += 1
            let row = rowOfColumn[column]
            let gains = self.row(row)
            let base = -gains[column] - price[column] - least
            var index = last
            while index < count {
                let candidate = columns[index]
                let value = -gains[candidate] - price[candidate] - base
                if value < distance[candidate] {
                    distance[candidate] = value
                    predecessor[candidate] = row
                    if value == least {
                        if rowOfColumn[candidate] < 0 {
                            end = candidate
                            break
                        }
                        exchange(index, last)
                        last += 1
                    }
                }
                index += 1
            }
        }
        for index in 0..<done { price[columns[index]] += distance[columns[index]] - least }
        var column = end
        while true {
            let row = predecessor[column]
            rowOfColumn[column] = row
            swap(&column, &columnOfRow[row])
            if row == start { break }
        }
    }

    private func exchange(_ one: Int, _ other: Int) {
        let column = columns[one]
        columns[one] = columns[other]
        columns[other] = column
    }
}
