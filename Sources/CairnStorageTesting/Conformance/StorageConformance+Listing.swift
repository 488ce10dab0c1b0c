import CairnBase
import CairnStorage

extension StorageConformance {
    static let listing: [StorageConformance] = [
        StorageConformance("listingsAreSortedAndBeginWithThePrefix") { storage, directory in
            let names = ["b/1", "a", "ab/2", "ab/10", "b/c/d", "ab-3", "Z", "b.txt"]
            for (index, name) in names.enumerated() {
                try storage.publish(patternBytes(index), as: "\(directory)/\(name)")
            }
            func list(_ prefix: String) throws -> [String] {
                try storage.list("\(directory)/\(prefix)").map { String($0.key.dropFirst(directory.count + 1)) }
            }
            try requireEqual(try list(""), ["Z", "a", "ab-3", "ab/10", "ab/2", "b.txt", "b/1", "b/c/d"], "all")
            try requireEqual(try list("ab"), ["ab-3", "ab/10", "ab/2"], "ab")
            try requireEqual(try list("ab/"), ["ab/10", "ab/2"], "ab/")
            try requireEqual(try list("b/c"), ["b/c/d"], "b/c")
            try requireEqual(try list("b/c/d"), ["b/c/d"], "b/c/d")
            try requireEqual(try list("nothing"), [], "nothing")
            try requireEqual(try list("no/thing/"), [], "no/thing/")
            try requireEqual(try list("a/below/a/file"), [], "below a file")
            try requireEqual(try storage.list("").map(\.key), try storage.list(directory).map(\.key), "whole storage")
        },
        StorageConformance("listingsTellSizeAndTime") { storage, directory in
            try storage.publish(patternBytes(123), as: "\(directory)/sized")
            let entry = try storage.list(directory + "/sized").first
            try requireEqual(entry?.byteCount, 123, "size")
            try require(entry?.isTemporary == false, "a finished object is not temporary")
            try require(entry.map { $0.modified >= 0 } == true, "time")
        },
        StorageConformance("deletedObjectsAreGoneAndTheOthersStay") { storage, directory in
            for name in ["step-1/a", "step-1/b", "step-2/deep/er/a", "top"] {
                try storage.publish([1], as: "\(directory)/\(name)")
            }
            let gone = ["step-1/a", "step-1/b", "step-2/deep/er/a", "missing", "missing/too", "top/below"]
            try storage.delete(gone.map { "\(directory)/\($0)" })
            try requireEqual(try storage.list(directory).map(\.key), ["\(directory)/top"], "what is left")
            try storage.delete([])
            try storage.delete(["\(directory)/top", "\(directory)/top"])
            try requireEqual(try storage.list(""), [], "what is left")
            try storage.publish([2], as: "\(directory)/step-1")
            try requireEqual(try storage.readAll("\(directory)/step-1"), [2], "a name that was a directory before")
        },
    ]
}
