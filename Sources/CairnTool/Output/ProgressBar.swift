import CairnBase
import Synchronization

/// A bar on standard error while something takes long; silent where standard error is not a terminal. Any thread may report.
final class ProgressBar: Sendable {
    private struct State {
        var done = 0
        var lastDrawn: ContinuousClock.Instant
        var isDrawn = false
    }

    private let title: String
    private let total: Int
    private let isShown: Bool
    private let start: ContinuousClock.Instant
    private let state: Mutex<State>

    /// - Parameters:
    ///   - title: what is being done, one word.
    ///   - total: the bytes to do.
    init(_ title: String, total: Int, isShown: Bool = Terminal.isError) {
        self.title = title
        self.total = total
        self.isShown = isShown
        start = ContinuousClock.now
        state = Mutex(State(lastDrawn: start))
    }

    deinit { finish() }

    /// Counts bytes that have just been done.
    func add(_ byteCount: Int) {
        guard isShown else { return }
        state.withLock { state in
            state.done = state.done.adding(clamped: byteCount)
            let now = ContinuousClock.now
            guard now - state.lastDrawn > .milliseconds(100) else { return }
            state.lastDrawn = now
            state.isDrawn = true
            StandardError.write("\r\u{1B}[K" + text(done: state.done, seconds: (now - start) / .seconds(1)))
        }
    }

    /// Removes the bar.
    func finish() {
        state.withLock { state in
            if state.isDrawn { StandardError.write("\r\u{1B}[K") }
            state.isDrawn = false
        }
    }

    private func text(done: Int, seconds: Double) -> String {
        let fraction = total > 0 ? min(1, Double(done) / Double(total)) : 1
        let rate = seconds > 0 ? ByteCountText.describe(Int(Double(done) / seconds)) + "/s" : ""
        let counts = "\(ByteCountText.describe(done)) of \(ByteCountText.describe(total))  \(rate)"
        let room = min(30, Terminal.errorColumns - title.count - counts.count - 12)
        var bar = ""
        if room > 4 {
            let filled = Int(fraction * Double(room))
            bar = "[" + String(repeating: "#", count: filled) + String(repeating: ".", count: room - filled) + "] "
        }
        return "\(title) \(bar)\(Int(fraction * 100))%  \(counts)"
    }
}
