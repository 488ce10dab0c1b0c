/// Why a JSON text could not be read, or a value not be used or written as asked.
package struct JSONError: Error, Hashable, CustomStringConvertible {
    /// The offset in the text, in bytes; `nil` if the error concerns a value and not a place in a text.
    package var offset: Int?
    /// What was expected and what was found.
    package var message: String

    package init(offset: Int? = nil, _ message: String) {
        self.offset = offset
        self.message = message
    }

    package var description: String {
        guard let offset else { return message }
        return "offset \(offset): \(message)"
    }

    /// The error as users see it, with the offset counted from the beginning of `file`.
    ///
    /// - Parameter baseOffset: Where the JSON text begins in the file, in bytes.
    package func cairnError(file: String, baseOffset: Int = 0) -> CairnError {
        let position = offset.flatMap { $0.adding(checked: baseOffset) }
        return CairnError(.malformed, message, CairnError.Context(file: file, offset: position))
    }
}
