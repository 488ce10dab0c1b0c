/// How much longer computing took because of what ran beside it.
///
/// A step as a whole varies by more than a snapshot costs. So the products of one step are compared with each other: those
/// that began before the work beside them was done with those that came after it, moments later on the same machine.
enum ComputeSlowdown {
    /// - Parameters:
    ///   - products: The seconds of each product, one after the other from the moment when the work began.
    ///   - duration: For how many seconds the work lasted.
    /// - Returns: The seconds that were lost; `nil` if fewer products came after the work than make a sound comparison.
    static func seconds(of products: [Double], beside duration: Double) -> Double? {
        var begin = 0.0
        var besideCount = 0
        while besideCount < products.count, begin < duration {
            begin += products[besideCount]
            besideCount += 1
        }
        let after = products[besideCount...]
        guard after.count >= max(16, besideCount / 4) else { return nil }
        return begin - after.reduce(0, +) / Double(after.count) * Double(besideCount)
    }
}
