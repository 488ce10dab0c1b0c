// swift-tools-version: 6.2
import PackageDescription

let swiftSettings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableExperimentalFeature("Lifetimes"),
]

// Dependencies of the tools, of the YAML reader and of the metrics. Behind traits, so that a package that asks for none of them
// (`traits: []`) resolves nothing but Cairn; the package itself builds with all.
let argumentParser: Target.Dependency = .product(
    name: "ArgumentParser", package: "swift-argument-parser", condition: .when(traits: ["Tools"]))
let yams: Target.Dependency = .product(name: "Yams", package: "Yams", condition: .when(traits: ["YAML"]))
let coreMetrics: Target.Dependency = .product(
    name: "CoreMetrics", package: "swift-metrics", condition: .when(traits: ["Metrics"]))

let package = Package(
    name: "Cairn",
    platforms: [.macOS(.v15)],
    products: [
        .library(name: "Cairn", targets: ["Cairn"]),
        .library(name: "CairnTensor", targets: ["CairnTensor"]),
        .library(name: "CairnLayout", targets: ["CairnLayout"]),
        .library(name: "CairnStorage", targets: ["CairnStorage"]),
        .library(name: "CairnCheckpoint", targets: ["CairnCheckpoint"]),
        .library(name: "CairnCommunication", targets: ["CairnCommunication"]),
        .library(name: "CairnMPI", targets: ["CairnMPI"]),
        .library(name: "CairnSnapshot", targets: ["CairnSnapshot"]),
        .library(name: "CairnMetrics", targets: ["CairnMetrics"]),
        .library(name: "CairnReshard", targets: ["CairnReshard"]),
        .library(name: "CairnMerge", targets: ["CairnMerge"]),
        .library(name: "CairnTrain", targets: ["CairnTrain"]),
        .library(name: "CairnUniversal", targets: ["CairnUniversal"]),
        .library(name: "CairnDigest", targets: ["CairnDigest"]),
        .library(name: "CairnInterop", targets: ["CairnInterop"]),
        .library(name: "CairnHDF5", targets: ["CairnHDF5"]),
        .executable(name: "cairn-train", targets: ["CairnTrainTool"]),
        .executable(name: "cairn-train-mpi", targets: ["CairnTrainMPI"]),
        .executable(name: "cairn", targets: ["CairnTool"]),
    ],
    traits: [
        .trait(name: "Tools", description: "The executables, on swift-argument-parser."),
        .trait(name: "YAML", description: "YAML files of rules (CairnUniversal) and merge recipes (CairnMerge), on Yams."),
        .trait(name: "Metrics", description: "CairnMetrics, on swift-metrics."),
        .default(enabledTraits: ["Tools", "YAML", "Metrics"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.0.0"),
    ],
    targets: [
        // What every module shares: errors, checked arithmetic, threads, JSON.
        .target(name: "CairnBase", dependencies: ["CCairnKernels"], swiftSettings: swiftSettings),
        // What all tests share: random numbers from a seed, temporary folders, the fixtures' place.
        .target(name: "CairnTesting", dependencies: ["CairnBase"], swiftSettings: swiftSettings),
        .target(name: "CCairnSystem"),
        .target(name: "CCairnKernels"),
        .target(name: "CairnTensor", dependencies: ["CairnBase", "CCairnKernels"], swiftSettings: swiftSettings),
        .target(name: "CairnLayout", dependencies: ["CairnBase", "CairnTensor"], swiftSettings: swiftSettings),
        // Random layouts, for tests of layouts and of everything above them.
        .target(
            name: "CairnLayoutTesting", dependencies: ["CairnBase", "CairnLayout", "CairnTensor", "CairnTesting"],
            swiftSettings: swiftSettings),
        .target(name: "CairnStorage", dependencies: ["CairnBase", "CCairnSystem"], swiftSettings: swiftSettings),
        // What tests of storage and of everything above it share: the conformance checks and a disk that crashes.
        .target(
            name: "CairnStorageTesting", dependencies: ["CairnBase", "CairnStorage", "CairnTesting"],
            swiftSettings: swiftSettings),
        // Checkpoints in memory, for tests of readers and writers and of everything above them.
        .target(
            name: "CairnCheckpointTesting", dependencies: ["CairnBase", "CairnCheckpoint", "CairnTensor", "CairnTesting"],
            swiftSettings: swiftSettings),
        // Ranks that talk to each other: the protocol, and ranks that are threads of one process.
        .target(name: "CairnCommunication", dependencies: ["CairnBase"], swiftSettings: swiftSettings),
        // The conformance checks of every implementation, for unit tests and for a job under mpirun.
        .target(
            name: "CairnCommunicationTesting", dependencies: ["CairnBase", "CairnCommunication", "CairnTesting"],
            swiftSettings: swiftSettings),
        // Ranks that are processes of an MPI job, a product of its own: nobody else needs an MPI.
        .systemLibrary(
            name: "CMPI", pkgConfig: "ompi-c", providers: [.apt(["libopenmpi-dev"]), .brew(["open-mpi"])]),
        .target(name: "CMPICalls", dependencies: ["CMPI"]),
        .target(
            name: "CairnMPI", dependencies: ["CMPICalls", "CairnBase", "CairnCommunication"],
            swiftSettings: swiftSettings),
        .executableTarget(
            name: "cairn-mpi-check",
            dependencies: ["CairnBase", "CairnCommunication", "CairnCommunicationTesting", "CairnMPI"],
            path: "Sources/CairnMPICheck", swiftSettings: swiftSettings),
        .systemLibrary(
            name: "CZstd", pkgConfig: "libzstd", providers: [.apt(["libzstd-dev"]), .brew(["zstd"])]),
        .target(
            name: "CairnCheckpoint",
            dependencies: ["CairnBase", "CairnCommunication", "CairnLayout", "CairnStorage", "CairnTensor", "CZstd"],
            swiftSettings: swiftSettings),
        // Snapshots that training does not feel.
        .target(
            name: "CairnSnapshot",
            dependencies: [
                "CCairnSystem", "CairnBase", "CairnCheckpoint", "CairnCommunication", "CairnLayout", "CairnStorage",
                "CairnTensor",
            ],
            swiftSettings: swiftSettings),
        // What snapshots measure, for those who collect metrics: a product of its own, so that nobody else builds swift-metrics.
        .target(
            name: "CairnMetrics",
            dependencies: ["CairnSnapshot", coreMetrics],
            swiftSettings: swiftSettings),
        // Reading under any layout what was saved under any other.
        .target(
            name: "CairnReshard",
            dependencies: ["CairnBase", "CairnCheckpoint", "CairnCommunication", "CairnLayout", "CairnTensor"],
            swiftSettings: swiftSettings),
        // What reads YAML files with errors that name the line, for rules and recipes.
        .target(name: "CairnYAML", dependencies: ["CairnBase", yams], swiftSettings: swiftSettings),
        // The universal checkpoint language, a target of its own so that nobody else needs a YAML reader.
        .target(
            name: "CairnUniversal",
            dependencies: [
                "CairnBase", "CairnCheckpoint", "CairnLayout", "CairnStorage", "CairnTensor", "CairnYAML",
            ],
            swiftSettings: swiftSettings),
        // What is made of stored weights: averages, merges, searches, permutations.
        .target(
            name: "CairnMerge",
            dependencies: ["CCairnKernels", "CairnBase", "CairnCheckpoint", "CairnTensor", "CairnYAML"],
            swiftSettings: swiftSettings),
        .systemLibrary(
            name: "COpenSSL", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"]), .brew(["openssl"])]),
        .target(
            name: "CairnDigest", dependencies: ["CairnBase", "CairnCheckpoint", "CairnTensor", "COpenSSL"],
            swiftSettings: swiftSettings),
        .target(
            name: "Cairn",
            dependencies: [
                "CairnBase", "CairnCheckpoint", "CairnLayout", "CairnReshard", "CairnStorage", "CairnTensor",
            ],
            swiftSettings: swiftSettings),
        // What other frameworks write.
        .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"]), .brew(["zlib"])]),
        .target(
            name: "CairnInterop",
            dependencies: ["CCairnKernels", "CairnBase", "CairnCheckpoint", "CairnStorage", "CairnTensor", "CZlib", "CZstd"],
            swiftSettings: swiftSettings),
        // HDF5 and Keras, a product of its own: nobody else needs libhdf5.
        .systemLibrary(name: "CHDF5", pkgConfig: "hdf5", providers: [.apt(["libhdf5-dev"]), .brew(["hdf5"])]),
        .target(name: "CHDF5Calls", dependencies: ["CHDF5"]),
        .target(
            name: "CairnHDF5",
            dependencies: [
                "CHDF5", "CHDF5Calls", "CairnBase", "CairnCheckpoint", "CairnInterop", "CairnStorage", "CairnTensor",
            ],
            swiftSettings: swiftSettings),
        // The trainer, a product of its own: nobody else needs OpenBLAS.
        .systemLibrary(
            name: "COpenBLAS", pkgConfig: "openblas", providers: [.apt(["libopenblas-dev"]), .brew(["openblas"])]),
        .target(name: "CTrainKernels"),
        .target(
            name: "CairnTrain",
            dependencies: [
                "CairnBase", "CairnCheckpoint", "CairnCommunication", "CairnLayout", "CairnTensor", "COpenBLAS",
                "CTrainKernels",
            ],
            swiftSettings: swiftSettings),
        // The commands of the trainer, over whatever ranks an executable gives them.
        .target(
            name: "CairnTrainCommands",
            dependencies: [
                "Cairn", "CairnBase", "CairnCommunication", "CairnLayout", "CairnMerge", "CairnReshard",
                "CairnSnapshot", "CairnTrain", "CairnUniversal",
                argumentParser,
            ],
            swiftSettings: swiftSettings),
        .executableTarget(
            name: "CairnTrainTool", dependencies: ["CairnTrainCommands"], swiftSettings: swiftSettings),
        .executableTarget(
            name: "CairnTrainMPI", dependencies: ["CairnBase", "CairnMPI", "CairnTrainCommands"],
            swiftSettings: swiftSettings),
        // The tool. Its product is `cairn`; a module of that name would clash with `Cairn` where case is not told apart.
        .executableTarget(
            name: "CairnTool",
            dependencies: [
                "CairnBase", "CairnCheckpoint", "CairnDigest", "CairnHDF5", "CairnInterop", "CairnLayout", "CairnMerge",
                "CairnReshard", "CairnSnapshot", "CairnStorage", "CairnTensor", "CairnUniversal",
                argumentParser,
            ],
            swiftSettings: swiftSettings),
        .executableTarget(
            name: "cairn-bench",
            dependencies: [
                "CCairnSystem", "COpenBLAS", "CTrainKernels", "Cairn", "CairnBase", "CairnDigest", "CairnInterop",
                "CairnReshard", "CairnSnapshot", "CairnTensor",
                argumentParser,
            ],
            path: "Sources/CairnBench", swiftSettings: swiftSettings),
        .testTarget(name: "CairnBaseTests", dependencies: ["CairnBase", "CairnTesting"], swiftSettings: swiftSettings),
        .testTarget(
            name: "CairnLayoutTests", dependencies: ["CairnBase", "CairnLayout", "CairnLayoutTesting", "CairnTensor"],
            swiftSettings: swiftSettings),
        .testTarget(
            name: "CairnTensorTests", dependencies: ["CairnTensor", "CairnTesting"],
            swiftSettings: swiftSettings),
        .testTarget(
            name: "CairnStorageTests",
            dependencies: ["CairnBase", "CairnStorage", "CairnStorageTesting", "CairnTesting"],
            swiftSettings: swiftSettings),
        .testTarget(
            name: "CairnCheckpointTests",
            dependencies: [
                "CairnBase", "CairnCheckpoint", "CairnCheckpointTesting", "CairnCommunication", "CairnLayout",
                "CairnStorage", "CairnStorageTesting", "CairnTensor", "CairnTesting",
            ],
            swiftSettings: swiftSettings),
        .testTarget(
            name: "CairnMetricsTests",
            dependencies: [
                "CairnBase", "CairnCheckpoint", "CairnMetrics", "CairnSnapshot", "CairnStorage", "CairnTensor",
                coreMetrics,
                .product(name: "MetricsTestKit", package: "swift-metrics", condition: .when(traits: ["Metrics"])),
            ],
            swiftSettings: swiftSettings),
        .testTarget(
            name: "CairnCommunicationTests",
            dependencies: ["CairnBase", "CairnCommunication", "CairnCommunicationTesting"],
            swiftSettings: swiftSettings),
        .testTarget(
            name: "CairnSnapshotTests",
            dependencies: [
                "CairnBase", "CairnCheckpoint", "CairnCommunication", "CairnLayout", "CairnSnapshot", "CairnStorage",
                "CairnStorageTesting", "CairnTensor", "CairnTesting",
            ],
            swiftSettings: swiftSettings),
        .testTarget(
            name: "CairnReshardTests",
            dependencies: [
                "CairnBase", "CairnCheckpoint", "CairnCommunication", "CairnInterop", "CairnLayout",
                "CairnLayoutTesting", "CairnReshard", "CairnStorage", "CairnStorageTesting", "CairnTensor", "CairnTesting",
            ],
            swiftSettings: swiftSettings),
        .testTarget(
            name: "CairnUniversalTests",
            dependencies: [
                "CairnBase", "CairnCheckpoint", "CairnCheckpointTesting", "CairnCommunication", "CairnLayout",
                "CairnStorage", "CairnTensor", "CairnTesting", "CairnUniversal",
            ],
            swiftSettings: swiftSettings),
        .testTarget(
            name: "CairnMergeTests",
            dependencies: [
                "CCairnKernels", "CairnBase", "CairnCheckpoint", "CairnCheckpointTesting", "CairnMerge", "CairnStorage",
                "CairnTensor", "CairnTesting",
            ],
            swiftSettings: swiftSettings),
        .testTarget(
            name: "CairnDigestTests",
            dependencies: [
                "CairnBase", "CairnCheckpoint", "CairnDigest", "CairnStorage", "CairnTensor", "CairnTesting",
            ],
            swiftSettings: swiftSettings),
        .testTarget(
            name: "CairnInteropTests",
            dependencies: [
                "CZlib", "CairnBase", "CairnCheckpoint", "CairnDigest", "CairnInterop", "CairnStorage",
                "CairnTensor", "CairnTesting",
            ],
            swiftSettings: swiftSettings),
        .testTarget(
            name: "CairnHDF5Tests",
            dependencies: [
                "CairnBase", "CairnCheckpoint", "CairnCheckpointTesting", "CairnDigest", "CairnHDF5", "CairnInterop",
                "CairnStorage", "CairnStorageTesting", "CairnTensor", "CairnTesting",
            ],
            swiftSettings: swiftSettings),
        .testTarget(
            name: "CairnTrainToolTests",
            dependencies: [
                "Cairn", "CairnSnapshot", "CairnTesting", "CairnTrain", "CairnTrainCommands", "CairnTrainTool",
                "CairnUniversal",
            ],
            swiftSettings: swiftSettings),
        .testTarget(
            name: "CairnTrainTests",
            dependencies: [
                "CairnBase", "CairnCheckpoint", "CairnCommunication", "CairnLayout", "CairnMerge", "CairnStorage",
                "CairnTensor", "CairnTesting", "CairnTrain", "CTrainKernels",
            ],
            swiftSettings: swiftSettings),
        // What every reader and every writer of checkpoints promises, one list of formats through the same suites.
        .testTarget(
            name: "CairnConformanceTests",
            dependencies: [
                "CairnBase", "CairnCheckpoint", "CairnCheckpointTesting", "CairnCommunication", "CairnHDF5", "CairnInterop",
                "CairnLayout", "CairnMerge", "CairnReshard", "CairnStorage", "CairnStorageTesting", "CairnTensor",
                "CairnTesting", "CairnUniversal",
            ],
            swiftSettings: swiftSettings),
        .testTarget(
            name: "CairnToolTests",
            dependencies: [
                "CairnBase", "CairnCheckpoint", "CairnSnapshot", "CairnStorage", "CairnTensor", "CairnTesting", "CairnTool",
            ],
            swiftSettings: swiftSettings),
    ]
)
