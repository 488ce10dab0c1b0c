#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// Times as text.
enum TimeText {
    /// ISO 8601 in UTC, to the second, from seconds since 1970; `nil` where that is not a time of the calendar.
    static func iso(_ seconds: Double) -> String? {
        guard let whole = time_t(exactly: seconds.rounded(.down)) else { return nil }
        var seconds = whole
        var parts = tm()
        guard gmtime_r(&seconds, &parts) != nil else { return nil }
        func two(_ value: Int32) -> String { value < 10 ? "0\(value)" : "\(value)" }
        return "\(Int(parts.tm_year) + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))T"
            + "\(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec))Z"
    }
}
