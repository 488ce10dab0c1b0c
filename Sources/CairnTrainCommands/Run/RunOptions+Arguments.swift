extension RunOptions {
    /// The options as they would be typed.
    var arguments: [String] {
        var words = ["--model", model.rawValue, "--steps", "\(steps)", "--layers", "\(layers)", "--heads", "\(heads)"]
        words += ["--width", "\(width)", "--context", "\(context)", "--batch", "\(batch)"]
        words += ["--vocabulary", "\(vocabulary)", "--optimizer", optimizer.rawValue]
        words += ["--schedule", schedule.rawValue, "--rate", "\(rate)", "--seed", "\(seed)"]
        if experts > 0 {
            words += ["--experts", "\(experts)", "--experts-per-token", "\(expertsPerToken)"]
            words += ["--experts-every", "\(expertsEvery)", "--expert-balance", "\(expertBalance)"]
            words += ["--expert-scale", "\(expertScale)"]
            if let expertWidth { words += ["--expert-width", "\(expertWidth)"] }
        }
        if let ema { words += ["--ema", "\(ema)"] }
        if let text { words += ["--text", text] }
        if let digits { words += ["--digits", digits] }
        if bf16 { words.append("--bf16") }
        return words
    }
}
