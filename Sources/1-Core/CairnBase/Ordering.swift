/// A string compared by its UTF-8 bytes.
///
/// Swift's `String` takes canonically equivalent spellings for equal; names in files differ when their bytes do. Orders as
/// Unicode code points do, which is how other systems sort names.
package struct ExactString: Hashable, Comparable, Sendable {
    package let string: String

    package init(_ string: String) { self.string = string }

    package static func == (left: ExactString, right: ExactString) -> Bool {
        left.string.utf8.elementsEqual(right.string.utf8)
    }

    package static func < (left: ExactString, right: ExactString) -> Bool {
        left.string.utf8.lexicographicallyPrecedes(right.string.utf8)
    }

    package func hash(into hasher: inout Hasher) {
        // One call for all bytes: hashing each by itself costs ten times as much.
        var text = string
        text.withUTF8 { hasher.combine(bytes: UnsafeRawBufferPointer($0)) }
    }
}

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
