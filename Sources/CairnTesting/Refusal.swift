package import CairnBase

/// The error that something throws; `nil` if it throws none, or one that is not of this package.
package func refusal(_ body: () throws -> Void) -> CairnError? {
    do {
        try body()
        return nil
    } catch {
        return error as? CairnError
    }
}
