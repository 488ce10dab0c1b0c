// swift-tools-version: 6.2
import PackageDescription

let swiftSettings: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableExperimentalFeature("Lifetimes"),
]

/// A module of the library, from its own sources.
func module(_ name: String, in folder: String = "1-Core", _ dependencies: [Target.Dependency]) -> Target {
    .target(name: name, dependencies: dependencies, path: "Cairn/\(folder)/\(name)", swiftSettings: swiftSettings)
}

// A package of its own, so that no other build needs what only a fuzzer can link. Scripts/fuzz builds and runs it. It
// takes the sources instead of the products, because what is fed in part, as zip archives are, is not public.
let package = Package(
    name: "CairnFuzz",
    platforms: [.macOS(.v15)],
    targets: [
        .target(name: "CCairnSystem", path: "Cairn/C/CCairnSystem"),
        .target(name: "CCairnKernels", path: "Cairn/C/CCairnKernels"),
        .systemLibrary(name: "CZstd", path: "Cairn/C/CZstd", pkgConfig: "libzstd"),
        .systemLibrary(name: "CZlib", path: "Cairn/C/CZlib", pkgConfig: "zlib"),
        .systemLibrary(name: "COpenSSL", path: "Cairn/C/COpenSSL", pkgConfig: "libcrypto"),
        .systemLibrary(name: "CISAL", path: "Cairn/C/CISAL", pkgConfig: "libisal"),
        .target(name: "CISALCalls", dependencies: ["CISAL"], path: "Cairn/C/CISALCalls"),
        .systemLibrary(name: "CHDF5", path: "Cairn/C/CHDF5", pkgConfig: "hdf5"),
        .target(name: "CHDF5Calls", dependencies: ["CHDF5"], path: "Cairn/C/CHDF5Calls"),
        module("CairnBase", ["CCairnKernels"]),
        module("CairnTensor", ["CairnBase", "CCairnKernels"]),
        module("CairnLayout", ["CairnBase", "CairnTensor"]),
        module("CairnStorage", ["CairnBase", "CCairnSystem"]),
        module("CairnCommunication", ["CairnBase"]),
        module(
            "CairnCheckpoint",
            ["CairnBase", "CairnCommunication", "CairnLayout", "CairnStorage", "CairnTensor", "CZstd"]),
        module("CairnKeeper", ["CCairnSystem", "CairnBase", "CairnCheckpoint", "CairnStorage"]),
        .systemLibrary(name: "CZMQ", path: "Cairn/C/CZMQ", pkgConfig: "libzmq"),
        module(
            "CairnKeeperGroup", ["CZMQ", "CairnBase", "CairnCheckpoint", "CairnKeeper", "CairnProtect", "CairnStorage"]),
        module("CairnDigest", ["COpenSSL", "CairnBase", "CairnCheckpoint", "CairnTensor"]),
        module("CairnProtect", ["CISALCalls", "CairnBase", "CairnCheckpoint", "CairnStorage", "CairnTensor"]),
        module(
            "CairnDelta", in: "3-Models", ["CairnBase", "CairnCheckpoint", "CairnDigest", "CairnStorage", "CairnTensor"]),
        module(
            "CairnInterop", in: "2-Formats",
            ["CCairnKernels", "CairnBase", "CairnCheckpoint", "CairnStorage", "CairnTensor", "CZlib", "CZstd"]),
        module(
            "CairnHDF5", in: "2-Formats",
            [
                "CHDF5", "CHDF5Calls", "CairnBase", "CairnCheckpoint", "CairnInterop", "CairnStorage", "CairnTensor",
            ]),
        .target(name: "CFuzzer"),
        .executableTarget(
            name: "cairn-fuzz",
            dependencies: [
                "CFuzzer", "CairnBase", "CairnCheckpoint", "CairnDelta", "CairnHDF5", "CairnInterop", "CairnKeeper",
                "CairnKeeperGroup", "CairnProtect", "CairnStorage", "CairnTensor",
            ],
            path: "Sources/CairnFuzz", swiftSettings: swiftSettings),
    ]
)
