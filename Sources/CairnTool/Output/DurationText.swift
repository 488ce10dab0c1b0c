/// Durations as text for a table: three digits and a unit.
enum DurationText {
    /// A duration from microseconds to hours.
    static func describe(_ seconds: Double) -> String {
        guard seconds.isFinite, seconds >= 0 else { return NumberText.short(seconds) }
        if seconds == 0 { return "0" }
        if seconds < 0.9995e-3 { return scaled(seconds * 1e6) + " us" }
        if seconds < 0.9995 { return scaled(seconds * 1e3) + " ms" }
        if seconds < 3600 { return scaled(seconds) + " s" }
        return scaled(seconds / 3600) + " h"
    }

    private static func scaled(_ value: Double) -> String {
        NumberText.fixed(value, digits: value < 9.995 ? 2 : value < 99.95 ? 1 : 0)
    }
}
