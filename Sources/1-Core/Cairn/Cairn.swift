// One import for a training loop: a state of tensors and values, a store that keeps it, and on many ranks its layout and loads.
// What formats, storages, views and tools are made of is in the modules themselves, which can be imported by name.
// Scripts/public-api counts what is listed here.

// Tensors and values
@_exported public import struct CairnBase.CairnError
@_exported public import struct CairnTensor.BFloat16
@_exported public import class CairnTensor.BufferPool
@_exported public import enum CairnTensor.ScalarType
@_exported public import struct CairnTensor.Shape
@_exported public import struct CairnTensor.Tensor
@_exported public import protocol CairnTensor.TensorScalar
@_exported public import enum CairnTensor.Value

// A state, and the store that keeps it
@_exported public import class CairnCheckpoint.CheckpointStore
@_exported public import struct CairnCheckpoint.Compression
@_exported public import struct CairnCheckpoint.LoadOptions
@_exported public import struct CairnCheckpoint.Loaded
@_exported public import struct CairnCheckpoint.RecoveryOrder
@_exported public import enum CairnCheckpoint.Resumption
@_exported public import struct CairnCheckpoint.RetentionPolicy
@_exported public import struct CairnCheckpoint.SaveOptions
@_exported public import enum CairnCheckpoint.StateNode
@_exported public import struct CairnCheckpoint.TrainingState
@_exported public import struct CairnStorage.LocalStorage
@_exported public import class CairnStorage.MemoryStorage

// What a checkpoint holds
@_exported public import protocol CairnCheckpoint.CheckpointReader
@_exported public import struct CairnCheckpoint.NamedValue
@_exported public import struct CairnCheckpoint.TensorDescription
@_exported public import struct CairnCheckpoint.VerificationReport

// Many ranks
@_exported public import struct CairnLayout.PlacedTensor
@_exported public import struct CairnCheckpoint.ShardedState
@_exported public import class CairnCheckpoint.ShardedStore
@_exported public import struct CairnLayout.DeviceMesh
@_exported public import struct CairnLayout.Layout
@_exported public import enum CairnLayout.Placement
@_exported public import struct CairnReshard.RemainingSamples
