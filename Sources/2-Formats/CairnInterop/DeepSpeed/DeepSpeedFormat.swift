import CairnBase
public import CairnCheckpoint

extension CheckpointFormat {
    /// DeepSpeed: a directory with the files of every rank, or one that says which of several is the latest.
    public static let deepspeed = {
        var format = CheckpointFormat(
            name: "deepspeed", title: "DeepSpeed", kinds: [.directory],
            recognise: { contents throws(CairnError) in
                let marks = [
                    "latest", "latest_universal", "mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_model_states.pt",
                ]
                return try contents.names().contains(where: marks.contains) ? Claim(contents.path) : nil
            },
            open: { path, options in Opening(try DeepSpeedReader(path: path, reading: options.reading)) })
        format.checksCoverage = true
        format.withoutChecksums = CheckpointFormat.torch.withoutChecksums
        format.openRanks = { try DeepSpeedReader.ranks(path: $0) }
        format.targets = [
            CheckpointTarget(
                name: "deepspeed-universal", summary: "a directory for DeepSpeed's load_universal", place: .directory,
                settings: [.step],
                writer: { DeepSpeedUniversalWriter(path: $0, step: $1.step, replaces: $1.replaces) })
        ]
        return format
    }()
}
