/// Points of a plane as an SVG picture.
struct ScatterChart {
    /// Points of one kind.
    struct Series {
        var name: String
        var points: [(x: Double, y: Double)]
        /// A colour of SVG.
        var colour: String
        /// In pixels.
        var radius = 5.0
        /// Whether a line joins them in their order.
        var isJoined = false
        /// What is written beside each point; none or one for each.
        var labels: [String] = []
    }

    /// What the axes are.
    var axes: (x: String, y: String)
    var series: [Series]

    private let width = 860.0
    private let height = 560.0
    private let frame = (left: 84.0, top: 50.0, right: 220.0, bottom: 60.0)

    init(x: String, y: String, series: [Series]) {
        axes = (x, y)
        self.series = series
    }

    func draw(title: String) -> String {
        let shown = series.flatMap(\.points).filter(isShown)
        guard let horizontal = Scale(shown.map(\.x), frame.left, width - frame.right),
            let vertical = Scale(shown.map(\.y), height - frame.bottom, frame.top)
        else { return "" }
        var svg = """
            <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(Int(width)) \(Int(height))" \
            font-family="sans-serif" font-size="13">
            <rect width="100%" height="100%" fill="white"/>
            \(VectorChart.heading(title, x: frame.left))

            """
        for tick in 0...5 {
            let (x, y) = (horizontal.tick(tick), vertical.tick(tick))
            svg += "<line x1=\"\(frame.left)\" x2=\"\(width - frame.right)\" y1=\"\(y.place)\" y2=\"\(y.place)\" "
            svg += "stroke=\"#ddd\"/>\n<line x1=\"\(x.place)\" x2=\"\(x.place)\" y1=\"\(frame.top)\" "
            svg += "y2=\"\(height - frame.bottom)\" stroke=\"#ddd\"/>\n"
            svg += "<text x=\"\(frame.left - 8)\" y=\"\(y.place + 4)\" text-anchor=\"end\">\(decimal(y.value))</text>\n"
            svg += "<text x=\"\(x.place)\" y=\"\(height - frame.bottom + 20)\" text-anchor=\"middle\">"
            svg += "\(decimal(x.value))</text>\n"
        }
        let (centre, middle) = ((frame.left + width - frame.right) / 2, (frame.top + height - frame.bottom) / 2)
        svg += "<text x=\"\(centre)\" y=\"\(height - 16)\" text-anchor=\"middle\">"
        svg += "\(VectorChart.escape(axes.x))</text>\n<text x=\"18\" y=\"\(middle)\" "
        svg += "transform=\"rotate(-90 18 \(middle))\" text-anchor=\"middle\">\(VectorChart.escape(axes.y))</text>\n"
        for own in series { svg += draw(own, horizontal, vertical) }
        svg += drawLabels(horizontal, vertical)
        for (index, own) in series.enumerated() {
            let baseline = frame.top + 14 + Double(index) * 22
            svg += "<circle cx=\"\(width - frame.right + 20)\" cy=\"\(baseline - 4)\" r=\"\(min(own.radius, 6))\" "
            svg += "fill=\"\(own.colour)\"/><text x=\"\(width - frame.right + 34)\" y=\"\(baseline)\">"
            svg += "\(VectorChart.escape(own.name))</text>\n"
        }
        return svg + "</svg>\n"
    }

    private func isShown(_ point: (x: Double, y: Double)) -> Bool { point.x.isFinite && point.y.isFinite }

    private func draw(_ series: Series, _ horizontal: Scale, _ vertical: Scale) -> String {
        var svg = ""
        let places = series.points.filter(isShown).map { (x: horizontal.place($0.x), y: vertical.place($0.y)) }
        if series.isJoined {
            let path = places.map { "\($0.x),\($0.y)" }.joined(separator: " ")
            svg += "<polyline fill=\"none\" stroke=\"\(series.colour)\" stroke-width=\"1.5\" points=\"\(path)\"/>\n"
        }
        for place in places {
            svg += "<circle cx=\"\(place.x)\" cy=\"\(place.y)\" r=\"\(series.radius)\" fill=\"\(series.colour)\"/>\n"
        }
        return svg
    }

    private func drawLabels(_ horizontal: Scale, _ vertical: Scale) -> String {
        var placement = LabelPlacement(inside: frame.left...width - frame.right)
        // Joined points are small, and may be covered.
        for own in series where !own.isJoined {
            for point in own.points where isShown(point) {
                placement.take(horizontal.place(point.x), vertical.place(point.y), radius: own.radius)
            }
        }
        var svg = ""
        for own in series {
            for (label, point) in zip(own.labels, own.points) where isShown(point) {
                let place = placement.place(
                    label, besides: horizontal.place(point.x), vertical.place(point.y), radius: own.radius)
                svg += "<text x=\"\(place.x)\" y=\"\(place.baseline)\" fill=\"#555\" "
                svg += "text-anchor=\"\(place.anchor)\">\(VectorChart.escape(label))</text>\n"
            }
        }
        return svg
    }

    /// Where numbers stand along an axis.
    private struct Scale {
        private let values: ClosedRange<Double>
        private let start: Double
        private let end: Double

        init?(_ numbers: [Double], _ start: Double, _ end: Double) {
            guard let low = numbers.min(), let high = numbers.max() else { return nil }
            // Some room, so that no point lies on the frame.
            let room = max(high - low, 1e-9) / 20
            values = low - room...high + room
            self.start = start
            self.end = end
        }

        func place(_ value: Double) -> Double {
            let part = (value - values.lowerBound) / (values.upperBound - values.lowerBound)
            return ((start + part * (end - start)) * 10).rounded() / 10
        }

        func tick(_ index: Int) -> (value: Double, place: Double) {
            let value = values.lowerBound + (values.upperBound - values.lowerBound) * Double(index) / 5
            return (value, place(value))
        }
    }
}

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
