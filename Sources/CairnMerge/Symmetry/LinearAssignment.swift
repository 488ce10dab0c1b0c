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
            var solver = Solver(gains: gains, count: count)
            return solver.solve()
        }
    }
}

/// Minimises costs, which are the negated gains.
private struct Solver {
    private let gains: UnsafeBufferPointer<Double>
    private let count: Int
    private var columnOfRow: [Int]
    private var rowOfColumn: [Int]
    /// The dual variables of the columns.
    private var price: [Double]

    init(gains: UnsafeBufferPointer<Double>, count: Int) {
        self.gains = gains
        self.count = count
        columnOfRow = [Int](repeating: -1, count: count)
        rowOfColumn = [Int](repeating: -1, count: count)
        price = [Double](repeating: 0, count: count)
    }

    private func cost(_ row: Int, _ column: Int) -> Double { -gains[row * count + column] }

    mutating func solve() -> [Int] {
        var free = reduceColumns()
        for _ in 0..<2 { free = reduceRows(free) }
        for row in free { augment(from: row) }
        return columnOfRow
    }

    /// Gives each column to the row where it is cheapest, if that is free; returns the rows that got none.
    private mutating func reduceColumns() -> [Int] {
        var claims = [Int](repeating: 0, count: count)
        var least = [Double](repeating: .infinity, count: count), place = [Int](repeating: 0, count: count)
        for row in 0..<count {
            for column in 0..<count {
                let value = cost(row, column)
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
                var slack = Double.infinity
                for column in 0..<count where column != own { slack = min(slack, cost(row, column) - price[column]) }
                price[own] -= slack
            }
        }
        return free
    }

    /// Lets free rows take the column that is cheapest for them, at most at the price of the second; returns those that
    /// are free behind that.
    private mutating func reduceRows(_ free: [Int]) -> [Int] {
        var waiting = free, left: [Int] = []
        var next = 0
        // Rounding could let two rows take a column from each other for ever.
        var budget = 64 * count
        while next < waiting.count {
            let row = waiting[next]
            next += 1
            var (first, second) = (Double.infinity, Double.infinity)
            var (column, other) = (0, 0)
            for candidate in 0..<count {
                let value = cost(row, candidate) - price[candidate]
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
    private mutating func augment(from start: Int) {
        var distance = [Double](repeating: 0, count: count)
        var predecessor = [Int](repeating: start, count: count)
        /// Columns in three stretches: those that are done, those at the least distance, the rest.
        var columns = Array(0..<count)
        for column in 0..<count { distance[column] = cost(start, column) - price[column] }
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
                    columns.swapAt(index, last)
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
            let base = cost(row, column) - price[column] - least
            var index = last
            while index < count {
                let candidate = columns[index]
                let value = cost(row, candidate) - price[candidate] - base
                if value < distance[candidate] {
                    distance[candidate] = value
                    predecessor[candidate] = row
                    if value == least {
                        if rowOfColumn[candidate] < 0 {
                            end = candidate
                            break
                        }
                        columns.swapAt(index, last)
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
}
