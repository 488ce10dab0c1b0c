/// A named row of losses for a chart.
struct LossCurve {
    var name: String
    var points: [(step: Int, loss: Double)]
    /// A colour of SVG.
    var colour: String
    /// The character that draws it on a terminal.
    var mark: Character
    /// In pixels.
    var width = 3.0
    var isDashed = false
}
