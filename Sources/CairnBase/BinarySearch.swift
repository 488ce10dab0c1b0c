extension RandomAccessCollection where Index == Int {
    /// The first position whose element satisfies `predicate`, the end if none does. The elements that do stand behind
    /// those that do not.
    @inlinable package func firstPosition(where predicate: (Element) -> Bool) -> Int {
        var low = startIndex
        var high = endIndex
        while low < high {
            let middle = low + (high - low) / 2
            if predicate(self[middle]) { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
