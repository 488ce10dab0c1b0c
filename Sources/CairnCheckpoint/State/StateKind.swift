/// What something in a nested state was to Python, where a plainer node stands for it: a set for which there is a list of its
/// elements, a complex number that is shown as its two parts.
public enum StateKind: Sendable, Hashable {
    case set
    case frozenSet
    case orderedDictionary
    case defaultDictionary
    case counter
    case deque
    case byteArray
    case complex
    /// An integer beyond 64 bits, in decimal digits.
    case bigInteger
    case path
    /// `torch.Size`.
    case size
    /// `torch.float32` and the like.
    case scalarType
    case device
    /// `torch.strided` and the like.
    case layout
    /// Another constant of PyTorch.
    case constant
    /// A tensor that is a parameter of a module.
    case parameter(requiresGradient: Bool)
    /// A tensor that gradients are computed for.
    case gradient
    /// A tensor with attributes, or of a class of its own.
    case subclass
    /// A tensor that is described by a dictionary of its parts.
    case sparseTensor, quantizedTensor, packedTensor, metaTensor, nestedTensor
    /// A NumPy array, for which there is a tensor or a list.
    case array
    /// A NumPy number.
    case arrayScalar
    /// A NumPy type.
    case arrayType

    /// What one of them is called.
    public var name: String {
        switch self {
        case .set: "set"
        case .frozenSet: "frozenset"
        case .orderedDictionary: "OrderedDict"
        case .defaultDictionary: "defaultdict"
        case .counter: "Counter"
        case .deque: "deque"
        case .byteArray: "bytearray"
        case .complex: "complex"
        case .bigInteger: "int beyond 64 bits"
        case .path: "Path"
        case .size: "torch.Size"
        case .scalarType: "torch.dtype"
        case .device: "torch.device"
        case .layout: "torch.layout"
        case .constant: "constant of PyTorch"
        case .parameter: "Parameter"
        case .gradient: "tensor with requires_grad"
        case .subclass: "tensor of a class or with attributes of its own"
        case .sparseTensor: "sparse tensor"
        case .quantizedTensor: "quantized tensor"
        case .packedTensor: "quantized tensor of several numbers in a byte"
        case .metaTensor: "tensor of the device meta"
        case .nestedTensor: "nested tensor"
        case .array: "numpy.ndarray"
        case .arrayScalar: "NumPy number"
        case .arrayType: "numpy.dtype"
        }
    }
}
