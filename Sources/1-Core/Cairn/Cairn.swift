// One import for a training loop: tensors, storage, checkpoints, and loads under any layout.
@_exported public import CairnBase
@_exported public import CairnCheckpoint
@_exported public import CairnLayout
@_exported public import CairnReshard
@_exported public import CairnStorage
@_exported public import CairnTensor
