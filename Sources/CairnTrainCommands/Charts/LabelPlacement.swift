/// Finds room for labels beside points: on the first side where they cover nothing.
struct LabelPlacement {
    private struct Box {
        var left: Double
        var right: Double
        var top: Double
        var bottom: Double

        func overlaps(_ other: Box) -> Bool {
            left < other.right && other.left < right && top < other.bottom && other.top < bottom
        }
    }

    private let inside: ClosedRange<Double>
    private var taken: [Box] = []

    /// - Parameter inside: How far to the left and to the right labels may reach.
    init(inside: ClosedRange<Double>) { self.inside = inside }

    /// Keeps the room of a point free.
    mutating func take(_ x: Double, _ y: Double, radius: Double) {
        taken.append(Box(left: x - radius, right: x + radius, top: y - radius, bottom: y + radius))
    }

    /// Where a label starts, or ends if its anchor is that.
    mutating func place(
        _ label: String, besides x: Double, _ y: Double, radius: Double
    ) -> (x: Double, baseline: Double, anchor: String) {
        // About what a letter takes at this size.
        let length = Double(label.count) * 7
        let (right, left) = (x + radius + 3, x - radius - 3)
        let shifts: [Double] = [4, -8, 16]
        let sides = shifts.flatMap { shift in
            [(left: right, shift: shift), (left: left - length, shift: shift)]
        }
        let boxes = sides.map { side in
            Box(left: side.left, right: side.left + length, top: y + side.shift - 11, bottom: y + side.shift + 3)
        }
        let free = boxes.indices.first { index in
            let box = boxes[index]
            return inside.contains(box.left) && inside.contains(box.right) && !taken.contains { $0.overlaps(box) }
        }
        let choice = free ?? 0
        taken.append(boxes[choice])
        let isLeft = boxes[choice].left < x
        return (isLeft ? left : right, y + sides[choice].shift, isLeft ? "end" : "start")
    }
}
