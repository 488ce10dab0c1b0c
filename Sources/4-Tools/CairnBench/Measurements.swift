#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

/// What was measured, a row for each operation, a column for each round.
final class Table {
    private var order: [String] = []
    private var seconds: [String: [Double]] = [:]
    private var processor: [String: [Double]] = [:]
    private var memory: [String: [Int]] = [:]

    /// Runs an operation in warmed memory and notes its time and the most memory that it took.
    func time(_ name: String, _ body: () throws -> Void) throws {
        Memory.warm(byteCount: 2_600_000_000)
        let before = Memory.resetPeak()
        let (start, startOfUse) = (ContinuousClock.now, Self.processorSeconds)
        try body()
        note(
            name, (ContinuousClock.now - start) / .seconds(1), max(0, Memory.peak() - before),
            Self.processorSeconds - startOfUse)
    }

    /// The same in memory that has been touched, for what takes none.
    func timeWarm(_ name: String, _ body: () throws -> Void) throws {
        let (start, startOfUse) = (ContinuousClock.now, Self.processorSeconds)
        try body()
        note(name, (ContinuousClock.now - start) / .seconds(1), 0, Self.processorSeconds - startOfUse)
    }

    /// Notes what another process measured of itself.
    func record(_ name: String, _ result: (seconds: Double, memory: Int)) throws { note(name, result.seconds, result.memory) }

    /// What the processors have done for this process, in seconds.
    private static var processorSeconds: Double {
        var time = timespec()
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    private func note(_ name: String, _ time: Double, _ bytes: Int, _ use: Double = .nan) {
        if seconds[name] == nil { order.append(name) }
        seconds[name, default: []].append(time)
        memory[name, default: []].append(bytes)
        processor[name, default: []].append(use)
        Self.note("  \(name): \(Self.fixed(time, 3)) s")
    }

    /// Prints the rows and the ratios as Markdown.
    func print(byteCount: Int, ratios: [(String, String)]) {
        Swift.print("State: \(byteCount) bytes.\n")
        Swift.print("| operation | median s | min | max | GB/s | processor s | extra memory MB |")
        Swift.print("| --- | --- | --- | --- | --- | --- | --- |")
        for name in order {
            let times = (seconds[name] ?? []).sorted()
            let median = Self.median(times)
            let extra = Double((memory[name] ?? []).sorted().last ?? 0) / 1e6
            Swift.print(
                "| \(name) | \(Self.fixed(median, 3)) | \(Self.fixed(times.first ?? 0, 3)) | "
                    + "\(Self.fixed(times.last ?? 0, 3)) | \(Self.fixed(Double(byteCount) / median / 1e9, 2)) | "
                    + "\(Self.fixed(Self.median((processor[name] ?? []).sorted()), 2)) | \(Self.fixed(extra, 0)) |")
        }
        Swift.print("\n| ratio within a round | median | min | max |\n| --- | --- | --- | --- |")
        for (first, second) in ratios {
            guard let a = seconds[first], let b = seconds[second] else { continue }
            let values = zip(a, b).map { $0 / $1 }.sorted()
            Swift.print(
                "| \(first) / \(second) | \(Self.fixed(Self.median(values), 2)) | \(Self.fixed(values.first ?? 0, 2)) | "
                    + "\(Self.fixed(values.last ?? 0, 2)) |")
        }
    }

    static func median(_ sorted: [Double]) -> Double {
        sorted.isEmpty ? .nan : (sorted[(sorted.count - 1) / 2] + sorted[sorted.count / 2]) / 2
    }

    static func fixed(_ value: Double, _ digits: Int) -> String {
        guard value.isFinite else { return "-" }
        if value < 0 { return "−" + fixed(-value, digits) }
        let scale = (0..<digits).reduce(1.0) { result, _ in result * 10 }
        let scaled = Int((value * scale).rounded())
        guard digits > 0 else { return "\(scaled)" }
        let fraction = String(scaled % Int(scale))
        return "\(scaled / Int(scale))." + String(repeating: "0", count: digits - fraction.count) + fraction
    }

    /// Says something on standard error.
    static func note(_ line: String) {
        let bytes = Array((line + "\n").utf8)
        _ = bytes.withUnsafeBytes { write(2, $0.baseAddress, $0.count) }
    }
}

/// The process's memory, seen from outside.
enum Memory {
    /// Touches and frees memory until that runs at memory speed, so that the timed region does not pay for it.
    static func warm(byteCount: Int) {
        for _ in 0..<4 {
            guard let memory = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
                memory != MAP_FAILED
            else { return }
            #if canImport(Glibc)
            madvise(memory, byteCount, MADV_HUGEPAGE)
            #endif
            let start = ContinuousClock.now
            for offset in stride(from: 0, to: byteCount, by: 4096) {
                memory.storeBytes(of: 1, toByteOffset: offset, as: UInt8.self)
            }
            munmap(memory, byteCount)
            let seconds = (ContinuousClock.now - start) / .seconds(1)
            if Double(byteCount) / seconds > 2e9 { return }
        }
    }

    /// Starts a new high-water mark of resident memory and returns what is resident now, in bytes.
    static func resetPeak() -> Int {
        let descriptor = open("/proc/self/clear_refs", O_WRONLY)
        if descriptor >= 0 {
            _ = write(descriptor, "5", 1)
            close(descriptor)
        }
        return status("VmRSS:")
    }

    /// The most resident memory since ``resetPeak()``, in bytes.
    static func peak() -> Int { status("VmHWM:") }

    private static func status(_ field: String) -> Int {
        let descriptor = open("/proc/self/status", O_RDONLY)
        guard descriptor >= 0 else { return 0 }
        defer { close(descriptor) }
        var buffer = [UInt8](repeating: 0, count: 8192)
        let count = read(descriptor, &buffer, buffer.count)
        for line in String(decoding: buffer.prefix(max(0, count)), as: UTF8.self).split(separator: "\n")
        where line.hasPrefix(field) {
            return (line.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0) * 1024
        }
        return 0
    }
}
