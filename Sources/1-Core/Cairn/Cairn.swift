// One import for a training loop: tensors, storage, checkpoints, ranks, and loads under any layout.
@_exported public import CairnBase
@_exported public import CairnCheckpoint
@_exported public import CairnCommunication
@_exported public import CairnLayout
@_exported public import CairnReshard
@_exported public import CairnStorage
@_exported public import CairnTensor
