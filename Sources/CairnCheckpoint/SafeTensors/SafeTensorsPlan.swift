import CairnBase
import CairnTensor

/// Which tensor goes into which file of a safetensors checkpoint, and where.
package struct SafeTensorsPlan {
    /// Where the bytes of a tensor go.
    struct StoredRange {
        var name: String
        var file: Int
        /// From the start of the file's data, in bytes.
        var byteRange: Range<Int>
    }

    /// The places in the order in which the tensors come.
    var ranges: [StoredRange] = []
    /// The tensors of each file in the order of the file; at least one file.
    var files: [[SafeTensorsHeader.Entry]] = []

    /// Fills files one after the other as the tensors come, each up to `maximumByteCount` of data where a tensor fits,
    /// so that one file is complete before the next begins.
    ///
    /// Within a file the tensors stand as the format's own library puts them: the types in descending order, so that
    /// every tensor is aligned, and then by name.
    init(_ tensors: [TensorDescription], maximumByteCount: Int?) throws(CairnError) {
        var members: [[Int]] = [[]]
        var byteCount = 0
        for (index, tensor) in tensors.enumerated() {
            let size: Int
            do throws(CairnError) {
                size = try Tensor.byteCount(tensor.scalarType, tensor.shape)
            } catch {
                throw error.adding(.init(tensor: tensor.name))
            }
            guard let sum = byteCount.adding(checked: size) else {
                throw CairnError(.invalidArgument, "the tensors together are too large", .init(tensor: tensor.name))
            }
            if let maximumByteCount, sum > maximumByteCount, byteCount > 0 {
                members.append([])
                byteCount = size
            } else {
                byteCount = sum
            }
            members[members.count - 1].append(index)
        }
        ranges = tensors.map { StoredRange(name: $0.name, file: 0, byteRange: 0..<0) }
        for (file, indexes) in members.enumerated() {
            var entries: [SafeTensorsHeader.Entry] = []
            var offset = 0
            for index in indexes.sorted(by: { Self.precedes(tensors[$0], tensors[$1]) }) {
                let tensor = tensors[index]
                let byteRange = offset..<offset + tensor.byteCount
                entries.append(
                    .init(name: tensor.name, scalarType: tensor.scalarType, shape: tensor.shape, byteRange: byteRange))
                ranges[index] = StoredRange(name: tensor.name, file: file, byteRange: byteRange)
                offset = byteRange.upperBound
            }
            files.append(entries)
        }
    }

    private static let order = Dictionary(
        uniqueKeysWithValues: ScalarType.allCases.enumerated().map { ($0.element, $0.offset) })

    private static func precedes(_ left: TensorDescription, _ right: TensorDescription) -> Bool {
        precedes((left.scalarType, left.name), (right.scalarType, right.name))
    }

    /// The order of tensors in a file.
    package static func precedes(_ left: SafeTensorsHeader.Entry, _ right: SafeTensorsHeader.Entry) -> Bool {
        precedes((left.scalarType, left.name), (right.scalarType, right.name))
    }

    private static func precedes(
        _ left: (type: ScalarType, name: String), _ right: (type: ScalarType, name: String)
    ) -> Bool {
        if left.type != right.type { return order[left.type, default: 0] > order[right.type, default: 0] }
        return ExactString(left.name) < ExactString(right.name)
    }
}
