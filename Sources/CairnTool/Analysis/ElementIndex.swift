import CairnTensor

extension Shape {
    /// The indices in each dimension of an element counted row-major.
    func indices(ofElement element: Int) -> [Int] {
        var rest = element
        return strides.map { stride in
            defer { rest %= stride }
            return rest / stride
        }
    }
}
