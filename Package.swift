// swift-tools-version: 6.2
import PackageDescription

let swiftSettings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableExperimentalFeature("Lifetimes"),
]

let package = Package(
    name: "Cairn",
    platforms: [.macOS(.v15)],
    products: [
        .library(name: "CairnTensor", targets: ["CairnTensor"]),
        .library(name: "CairnStorage", targets: ["CairnStorage"]),
    ],
    targets: [
        // What every module shares: errors, checked arithmetic, threads, JSON.
        .target(name: "CairnBase", dependencies: ["CCairnKernels"], swiftSettings: swiftSettings),
        .target(name: "CCairnSystem"),
        .target(name: "CCairnKernels"),
        .target(name: "CairnTensor", dependencies: ["CairnBase", "CCairnKernels"], swiftSettings: swiftSettings),
        .target(name: "CairnStorage", dependencies: ["CairnBase", "CCairnSystem"], swiftSettings: swiftSettings),
        // What tests of storage and of everything above it share: the conformance checks and a disk that crashes.
        .target(
            name: "CairnStorageTesting", dependencies: ["CairnBase", "CairnStorage"], swiftSettings: swiftSettings),
        .testTarget(name: "CairnBaseTests", dependencies: ["CairnBase"], swiftSettings: swiftSettings),
        .testTarget(name: "CairnTensorTests", dependencies: ["CairnTensor"], swiftSettings: swiftSettings),
        .testTarget(
            name: "CairnStorageTests", dependencies: ["CairnBase", "CairnStorage", "CairnStorageTesting"],
            swiftSettings: swiftSettings),
    ]
)
