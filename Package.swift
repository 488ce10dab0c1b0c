// swift-tools-version: 6.2
import PackageDescription

// Sources shows the floors, each of which builds on those before it; Tests/Support is what only tests use.
enum Room: String {
    case core = "Sources/1-Core", formats = "Sources/2-Formats", models = "Sources/3-Models", tools = "Sources/4-Tools"
    case c = "Sources/C", support = "Tests/Support"
}

let settings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableExperimentalFeature("Lifetimes"),
]

/// A module of Swift.
func module(_ room: Room, _ name: String, _ dependencies: Target.Dependency...) -> Target {
    .target(name: name, dependencies: dependencies, path: "\(room.rawValue)/\(name)", swiftSettings: settings)
}

/// An executable; `folder` where it is not called as the target.
func tool(_ name: String, folder: String? = nil, _ dependencies: Target.Dependency...) -> Target {
    .executableTarget(
        name: name, dependencies: dependencies, path: "\(Room.tools.rawValue)/\(folder ?? name)", swiftSettings: settings)
}

/// The tests of a module.
func tests(_ name: String, _ dependencies: Target.Dependency...) -> Target {
    .testTarget(name: name, dependencies: dependencies, swiftSettings: settings)
}

/// A module of C.
func c(_ name: String, _ dependencies: Target.Dependency...) -> Target {
    .target(name: name, dependencies: dependencies, path: "\(Room.c.rawValue)/\(name)")
}

/// A library of the system; without `pkgConfig` where that says more than SwiftPM allows.
func system(_ name: String, _ pkgConfig: String? = nil, apt: String, brew: String) -> Target {
    .systemLibrary(
        name: name, path: "\(Room.c.rawValue)/\(name)", pkgConfig: pkgConfig, providers: [.apt([apt]), .brew([brew])])
}

/// A product of one library.
func library(_ name: String) -> Product { .library(name: name, targets: [name]) }

// Behind traits, so that a package that asks for none of them (`traits: []`) resolves nothing but Cairn; the package itself
// builds with all.
let argumentParser: Target.Dependency = .product(
    name: "ArgumentParser", package: "swift-argument-parser", condition: .when(traits: ["Tools"]))
let yams: Target.Dependency = .product(name: "Yams", package: "Yams", condition: .when(traits: ["YAML"]))
let coreMetrics: Target.Dependency = .product(
    name: "CoreMetrics", package: "swift-metrics", condition: .when(traits: ["Metrics"]))
let metricsTestKit: Target.Dependency = .product(
    name: "MetricsTestKit", package: "swift-metrics", condition: .when(traits: ["Metrics"]))

let package = Package(
    name: "Cairn",
    platforms: [.macOS(.v15)],
    products: [
        library("Cairn"), library("CairnTensor"), library("CairnLayout"), library("CairnStorage"), library("CairnCheckpoint"),
        library("CairnCommunication"), library("CairnMPI"), library("CairnSnapshot"), library("CairnKeeper"),
        library("CairnMetrics"),
        library("CairnReshard"), library("CairnMerge"), library("CairnTrain"), library("CairnUniversal"),
        library("CairnDelta"), library("CairnDigest"), library("CairnProtect"), library("CairnInterop"), library("CairnHDF5"),
        .executable(name: "cairn", targets: ["CairnTool"]),
        .executable(name: "cairn-train", targets: ["CairnTrainTool"]),
        .executable(name: "cairn-train-mpi", targets: ["CairnTrainMPI"]),
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
        // C: system calls and kernels, and what binds libraries.
        c("CCairnSystem"),
        c("CCairnKernels"),
        c("CTrainKernels"),
        c("CHDF5Calls", "CHDF5"),
        c("CMPICalls", "CMPI"),
        c("CISALCalls", "CISAL"),
        system("CZstd", "libzstd", apt: "libzstd-dev", brew: "zstd"),
        system("CZlib", "zlib", apt: "zlib1g-dev", brew: "zlib"),
        system("COpenSSL", "libcrypto", apt: "libssl-dev", brew: "openssl"),
        system("CHDF5", "hdf5", apt: "libhdf5-dev", brew: "hdf5"),
        system("COpenBLAS", "openblas", apt: "libopenblas-dev", brew: "openblas"),
        system("CMPI", "ompi-c", apt: "libopenmpi-dev", brew: "open-mpi"),
        system("CISAL", "libisal", apt: "libisal-dev", brew: "isa-l"),
        system("CZMQ", apt: "libzmq3-dev", brew: "zeromq"),

        // Core: what a training loop needs.
        module(.core, "CairnBase", "CCairnKernels"),
        module(.core, "CairnTensor", "CCairnKernels", "CairnBase"),
        module(.core, "CairnLayout", "CairnBase", "CairnTensor"),
        module(.core, "CairnStorage", "CCairnSystem", "CairnBase"),
        module(.core, "CairnCommunication", "CairnBase"),
        module(
            .core, "CairnCheckpoint", "CZstd", "CairnBase", "CairnCommunication", "CairnLayout", "CairnStorage", "CairnTensor"),
        module(.core, "CairnReshard", "CairnBase", "CairnCheckpoint", "CairnCommunication", "CairnLayout", "CairnTensor"),
        module(
            .core, "CairnSnapshot", "CCairnSystem", "CairnBase", "CairnCheckpoint", "CairnCommunication", "CairnLayout",
            "CairnStorage", "CairnTensor"),
        module(.core, "CairnKeeper", "CCairnSystem", "CairnBase", "CairnCheckpoint", "CairnStorage"),
        module(
            .core, "Cairn", "CairnBase", "CairnCheckpoint", "CairnLayout", "CairnReshard", "CairnStorage", "CairnTensor"),
        // Modules of their own, so that nobody else needs an MPI, ISA-L, OpenSSL, ZeroMQ or swift-metrics.
        module(.core, "CairnMPI", "CMPICalls", "CairnBase", "CairnCommunication"),
        module(.core, "CairnDigest", "COpenSSL", "CairnBase", "CairnCheckpoint", "CairnTensor"),
        module(.core, "CairnProtect", "CISALCalls", "CairnBase", "CairnCheckpoint", "CairnStorage", "CairnTensor"),
        module(
            .core, "CairnKeeperGroup", "CZMQ", "CairnBase", "CairnCheckpoint", "CairnKeeper", "CairnProtect", "CairnStorage"),
        module(.core, "CairnMetrics", "CairnSnapshot", coreMetrics),

        // Formats: what others write.
        module(
            .formats, "CairnInterop", "CCairnKernels", "CZlib", "CZstd", "CairnBase", "CairnCheckpoint", "CairnStorage",
            "CairnTensor"),
        module(
            .formats, "CairnHDF5", "CHDF5", "CHDF5Calls", "CairnBase", "CairnCheckpoint", "CairnInterop", "CairnStorage",
            "CairnTensor"),
        module(.formats, "CairnYAML", "CairnBase", yams),
        module(
            .formats, "CairnUniversal", "CairnBase", "CairnCheckpoint", "CairnLayout", "CairnStorage", "CairnTensor",
            "CairnYAML"),

        // Models: what is made of stored weights, and the example trainer.
        module(.models, "CairnMerge", "CCairnKernels", "CairnBase", "CairnCheckpoint", "CairnTensor", "CairnYAML"),
        module(
            .models, "CairnDelta", "CairnBase", "CairnCheckpoint", "CairnDigest", "CairnStorage", "CairnTensor"),
        module(
            .models, "CairnTrain", "COpenBLAS", "CTrainKernels", "CairnBase", "CairnCheckpoint", "CairnCommunication",
            "CairnLayout", "CairnTensor"),
        // Of no library: programs that start programs, and tests.
        module(.models, "CairnProcesses", "CairnBase"),
        module(
            .models, "CairnTrainCommands", "Cairn", "CairnBase", "CairnCommunication", "CairnKeeper", "CairnLayout", "CairnMerge",
            "CairnProcesses", "CairnProtect", "CairnReshard", "CairnSnapshot", "CairnTrain", "CairnUniversal", argumentParser),

        // Tools. The product of CairnTool is `cairn`: a module of that name would clash with `Cairn` where case is not told
        // apart.
        tool(
            "CairnTool", "CairnBase", "CairnCheckpoint", "CairnDelta", "CairnDigest", "CairnHDF5", "CairnInterop", "CairnKeeper",
            "CairnKeeperGroup", "CairnLayout", "CairnMerge", "CairnProtect", "CairnReshard", "CairnSnapshot", "CairnStorage",
            "CairnTensor",
            "CairnUniversal", argumentParser),
        tool("CairnTrainTool", "CairnTrainCommands"),
        tool("CairnTrainMPI", "CairnBase", "CairnMPI", "CairnTrainCommands"),
        tool(
            "cairn-bench", folder: "CairnBench", "CCairnSystem", "CISAL", "COpenBLAS", "CTrainKernels", "Cairn", "CairnBase",
            "CairnCheckpoint", "CairnDigest", "CairnInterop", "CairnKeeper", "CairnProcesses", "CairnProtect", "CairnReshard",
            "CairnSnapshot", "CairnStorage", "CairnTensor", argumentParser),
        tool(
            "cairn-mpi-check", folder: "CairnMPICheck", "CairnBase", "CairnCommunication", "CairnCommunicationTesting",
            "CairnMPI"),

        // What Docs/Tutorials teaches, whole: as a user's package has it, so without the settings of ours.
        .executableTarget(
            name: "cairn-example-training-loop", dependencies: ["Cairn", "CairnCommunication", "CairnSnapshot"],
            path: "Sources/Examples/TrainingLoop"),

        // What tests share: seeds and temporary folders; random layouts; a disk that crashes; checkpoints in memory; the
        // conformance checks of storages and communicators.
        module(.support, "CairnTesting", "CairnBase"),
        module(.support, "CairnLayoutTesting", "CairnBase", "CairnLayout", "CairnTensor", "CairnTesting"),
        module(.support, "CairnStorageTesting", "CairnBase", "CairnStorage", "CairnTesting"),
        module(.support, "CairnCheckpointTesting", "CairnBase", "CairnCheckpoint", "CairnTensor", "CairnTesting"),
        module(.support, "CairnCommunicationTesting", "CairnBase", "CairnCommunication", "CairnTesting"),

        tests("CairnBaseTests", "CairnBase", "CairnTesting"),
        tests("CairnTensorTests", "CairnTensor", "CairnTesting"),
        tests("CairnLayoutTests", "CairnBase", "CairnLayout", "CairnLayoutTesting", "CairnTensor"),
        tests("CairnStorageTests", "CairnBase", "CairnStorage", "CairnStorageTesting", "CairnTesting"),
        tests("CairnCommunicationTests", "CairnBase", "CairnCommunication", "CairnCommunicationTesting"),
        tests(
            "CairnCheckpointTests", "CairnBase", "CairnCheckpoint", "CairnCheckpointTesting", "CairnCommunication",
            "CairnLayout", "CairnStorage", "CairnStorageTesting", "CairnTensor", "CairnTesting"),
        tests(
            "CairnReshardTests", "CairnBase", "CairnCheckpoint", "CairnCommunication", "CairnInterop", "CairnLayout",
            "CairnLayoutTesting", "CairnReshard", "CairnStorage", "CairnStorageTesting", "CairnTensor", "CairnTesting"),
        tests(
            "CairnSnapshotTests", "CairnBase", "CairnCheckpoint", "CairnCommunication", "CairnLayout", "CairnSnapshot",
            "CairnStorage", "CairnStorageTesting", "CairnTensor", "CairnTesting"),
        tests(
            "CairnKeeperTests", "CairnBase", "CairnCheckpoint", "CairnKeeper", "CairnSnapshot", "CairnStorage",
            "CairnStorageTesting", "CairnTensor", "CairnTesting"),
        tests(
            "CairnKeeperGroupTests", "CZMQ", "CairnBase", "CairnCheckpoint", "CairnKeeper", "CairnKeeperGroup", "CairnStorage",
            "CairnTensor", "CairnTesting"),
        tests(
            "CairnMetricsTests", "CairnBase", "CairnCheckpoint", "CairnMetrics", "CairnSnapshot", "CairnStorage", "CairnTensor",
            coreMetrics, metricsTestKit),
        tests(
            "CairnDigestTests", "CairnBase", "CairnCheckpoint", "CairnDigest", "CairnStorage", "CairnTensor", "CairnTesting"),
        tests(
            "CairnDeltaTests", "CairnBase", "CairnCheckpoint", "CairnCheckpointTesting", "CairnDelta", "CairnDigest",
            "CairnStorage", "CairnTensor", "CairnTesting"),
        tests(
            "CairnProtectTests", "CairnBase", "CairnCheckpoint", "CairnCommunication", "CairnLayout", "CairnProtect",
            "CairnReshard", "CairnStorage", "CairnStorageTesting", "CairnTensor", "CairnTesting"),
        tests(
            "CairnInteropTests", "CZlib", "CairnBase", "CairnCheckpoint", "CairnDigest", "CairnInterop", "CairnStorage",
            "CairnTensor", "CairnTesting"),
        tests(
            "CairnHDF5Tests", "CairnBase", "CairnCheckpoint", "CairnCheckpointTesting", "CairnDigest", "CairnHDF5",
            "CairnInterop", "CairnStorage", "CairnStorageTesting", "CairnTensor", "CairnTesting"),
        tests(
            "CairnUniversalTests", "CairnBase", "CairnCheckpoint", "CairnCheckpointTesting", "CairnCommunication", "CairnLayout",
            "CairnStorage", "CairnTensor", "CairnTesting", "CairnUniversal"),
        tests(
            "CairnMergeTests", "CCairnKernels", "CairnBase", "CairnCheckpoint", "CairnCheckpointTesting", "CairnMerge",
            "CairnStorage", "CairnTensor", "CairnTesting"),
        tests(
            "CairnTrainTests", "CTrainKernels", "CairnBase", "CairnCheckpoint", "CairnCommunication", "CairnLayout",
            "CairnMerge", "CairnStorage", "CairnTensor", "CairnTesting", "CairnTrain"),
        tests(
            "CairnTrainToolTests", "Cairn", "CairnProcesses", "CairnSnapshot", "CairnTesting", "CairnTrain", "CairnTrainCommands",
            "CairnTrainTool", "CairnUniversal"),
        // What every reader and every writer of checkpoints promises, one list of formats through the same suites.
        tests(
            "CairnConformanceTests", "CairnBase", "CairnCheckpoint", "CairnCheckpointTesting", "CairnCommunication", "CairnHDF5",
            "CairnInterop", "CairnLayout", "CairnMerge", "CairnReshard", "CairnStorage", "CairnStorageTesting", "CairnTensor",
            "CairnTesting", "CairnUniversal"),
        tests(
            "CairnToolTests", "CairnBase", "CairnCheckpoint", "CairnKeeper", "CairnProtect", "CairnSnapshot", "CairnStorage",
            "CairnTensor", "CairnTesting", "CairnTool"),
    ]
)
