/// Loss curves as an SVG picture.
struct VectorChart {
    var title: String
    private let size = (width: 860.0, height: 480.0)
    private let frame = (left: 84.0, top: 50.0, right: 20.0, bottom: 50.0)

    init(title: String) { self.title = title }

    func draw(_ curves: [LossCurve]) -> String {
        let points = curves.flatMap(\.points).filter { $0.loss.isFinite }
        guard let low = points.map(\.loss).min(), let high = points.map(\.loss).max(),
            let first = points.map(\.step).min(), let last = points.map(\.step).max()
        else { return "" }
        func x(_ step: Int) -> Double {
            frame.left + Double(step - first) / Double(max(1, last - first)) * (size.width - frame.left - frame.right)
        }
        func y(_ loss: Double) -> Double {
            frame.top + (high - loss) / max(high - low, 1e-12) * (size.height - frame.top - frame.bottom)
        }
        var svg = """
            <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 \(Int(size.width)) \(Int(size.height))" \
            font-family="sans-serif" font-size="13">
            <rect width="100%" height="100%" fill="white"/>
            <text x="\(frame.left)" y="28" font-size="17">\(escape(title))</text>

            """
        for tick in 0...5 {
            let loss = low + (high - low) * Double(tick) / 5
            svg += "<line x1=\"\(frame.left)\" x2=\"\(size.width - frame.right)\" y1=\"\(round(y(loss)))\" "
            svg += "y2=\"\(round(y(loss)))\" stroke=\"#ddd\"/>"
            svg += "<text x=\"\(frame.left - 8)\" y=\"\(round(y(loss) + 4))\" text-anchor=\"end\">\(decimal(loss))</text>\n"
            let step = first + (last - first) * tick / 5
            svg += "<text x=\"\(round(x(step)))\" y=\"\(size.height - frame.bottom + 20)\" "
            svg += "text-anchor=\"middle\">\(step)</text>\n"
        }
        svg += "<text x=\"\(size.width / 2)\" y=\"\(size.height - 10)\" text-anchor=\"middle\">step</text>\n"
        svg += "<text x=\"20\" y=\"\(size.height / 2)\" transform=\"rotate(-90 20 \(size.height / 2))\" "
        svg += "text-anchor=\"middle\">training loss (nats)</text>\n"
        for (index, curve) in curves.enumerated() {
            let path = curve.points.filter { $0.loss.isFinite }.map { "\(round(x($0.step))),\(round(y($0.loss)))" }
            svg += "<polyline fill=\"none\" stroke=\"\(curve.colour)\" stroke-width=\"\(curve.isDashed ? 2 : 3)\" "
            svg += curve.isDashed ? "stroke-dasharray=\"6 5\" " : ""
            svg += "points=\"\(path.joined(separator: " "))\"/>\n"
            let top = frame.top + 14 + Double(index) * 20
            svg += "<rect x=\"\(size.width - 330)\" y=\"\(top - 9)\" width=\"18\" height=\"4\" fill=\"\(curve.colour)\"/>"
            svg += "<text x=\"\(size.width - 305)\" y=\"\(top - 2)\">\(escape(curve.name))</text>\n"
        }
        return svg + "</svg>\n"
    }

    /// Two decimals are finer than a pixel.
    private func round(_ value: Double) -> Double { (value * 100).rounded() / 100 }

    private func escape(_ text: String) -> String {
        text.split(separator: "&", omittingEmptySubsequences: false).joined(separator: "&amp;")
            .split(separator: "<", omittingEmptySubsequences: false).joined(separator: "&lt;")
    }
}
