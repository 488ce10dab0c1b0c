import CFuzzer

/// `cairn-fuzz TARGET [libFuzzer's options] [corpus…]`
@main
struct Main {
    static func main() {
        let names = CommandLine.arguments
        guard names.count > 1, let target = FuzzTarget(rawValue: names[1]) else {
            print("targets: " + FuzzTarget.allCases.map(\.rawValue).joined(separator: " "))
            return
        }
        FuzzTarget.current = target
        // libFuzzer sees the command line without the target's name.
        var count = CommandLine.argc - 1
        var arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>? = CommandLine.unsafeArgv + 1
        arguments?[0] = CommandLine.unsafeArgv[0]
        _ = LLVMFuzzerRunDriver(&count, &arguments) { data, count in
            FuzzTarget.current.run(Array(UnsafeBufferPointer(start: data, count: count)))
            return 0
        }
    }
}
