public import CairnCheckpoint

extension CheckpointFormats {
    /// Cairn's format and those of others that need no library beside it. `CairnHDF5` has two more: `.hdf5` and `.keras`.
    ///
    /// ```swift
    /// let checkpoint = try CheckpointFormats.interop.open("model.pt")
    /// ```
    public static let interop: CheckpointFormats = [.cairn, .safetensors, .torch, .dcp, .deepspeed, .numpy]
}
