// swift-tools-version: 6.2
import PackageDescription

// A package of its own, so that nobody else builds what only a fuzzer can link. Scripts/fuzz builds and runs it.
let package = Package(
    name: "CairnFuzz",
    platforms: [.macOS(.v15)],
    dependencies: [.package(name: "Cairn", path: "..")],
    targets: [
        .target(name: "CFuzzer"),
        .executableTarget(
            name: "cairn-fuzz",
            dependencies: [
                "CFuzzer",
                .product(name: "CairnCheckpoint", package: "Cairn"), .product(name: "CairnInterop", package: "Cairn"),
                .product(name: "CairnStorage", package: "Cairn"), .product(name: "CairnTensor", package: "Cairn"),
            ],
            path: "Sources/CairnFuzz",
            swiftSettings: [.swiftLanguageMode(.v6), .treatAllWarnings(as: .error)]),
    ]
)
