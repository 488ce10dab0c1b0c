import CairnBase
import CairnLayout
import CairnLayoutTesting
import CairnTensor
import Testing

/// Layouts from files of strangers: refused or answered, never a trap, a hang or a full memory.
@Suite struct HostileLayoutTests {
    @Test(arguments: [
        "", "[]", "{}", "null", #"{"mesh":[]"#, #"{"mesh":[["dp",2]],"steps":[["dp"]]}"#,
        #"{"mesh":[["dp",0]]}"#, #"{"mesh":[["dp",9223372036854775807],["tp",4]]}"#, #"{"mesh":[["dp",2,3]]}"#,
        #"{"mesh":[["dp",2],["dp",2]]}"#, #"{"mesh":[["dp",2]],"steps":[["tp","replicate"]]}"#,
        #"{"mesh":[["dp",2]],"steps":[["dp","shard"]]}"#,
        #"{"mesh":[["dp",2]],"steps":[["dp","shard",0,{"odd":1}]]}"#,
        #"{"mesh":[["dp",2]],"steps":[["dp","shard",0,{"division":"sideways"}]]}"#,
        #"{"mesh":[["dp",2]],"steps":[["dp","shard",0,{"unit":0}]]}"#,
        #"{"mesh":[["dp",2]],"steps":[["dp","shard",0.5]]}"#, #"{"mesh":[["dp",2]],"steps":[["dp","turn"]]}"#,
        #"{"mesh":[["dp",2]],"steps":[["dp","flatten",{"equal":1,"cuts":[0,1,2]}]]}"#,
        #"{"mesh":[["dp",2]],"steps":[["dp","partial","max"]]}"#,
        #"{"mesh":[["dp",2]],"steps":[["dp","present",[7]]]}"#,
        #"{"mesh":[["dp",2]],"padding":[[0,4],[0,5]]}"#, #"{"mesh":[["dp",2]],"padding":[[0,-4]]}"#,
        #"{"mesh":[["dp",2]],"explicit":[[]]}"#, #"{"mesh":[["dp",1]],"explicit":[[[[0],[-1]]]]}"#,
        #"{"mesh":[["dp",1]],"explicit":[[[[9223372036854775807],[1]]]]}"#,
        #"{"mesh":[["dp",1]],"explicit":[[[[0,0],[1]]]]}"#, #"{"mesh":[["dp",1]],"explicit":[[]],"steps":[]}"#,
        #"{"mesh":[["dp",2]],"new":1}"#, #"{"mesh":[["dp",2]],"mesh":[["dp",2]]}"#,
        "{\"mesh\":" + String(repeating: "[", count: 100),
    ])
    func textThatIsNoLayoutIsMalformed(_ text: String) throws {
        let error = #expect(throws: CairnError.self) { try LayoutCoding.decode(Array(text.utf8)) }
        #expect(error?.code == .malformed, "\(text): \(String(describing: error))")
    }

    @Test(arguments: [
        (#"["dp","shard",0,{"sections":[{"size":0}],"repeats":4611686018427387904}]"#, [0]),
        (#"["dp","shard",0,{"sections":[{"size":2}],"repeats":1099511627776}]"#, [1 << 41]),
        (#"["dp","shard",0,{"sections":[{"size":9223372036854775807},{"size":2}]}]"#, [1]),
        (#"["dp","shard",0,{"division":[9223372036854775807,9223372036854775807]}]"#, [9]),
        (#"["dp","flatten",{"start":9223372036854775807,"equal":4}]"#, [4]),
    ])
    func stepsThatWouldExplodeAreRefused(_ step: String, _ extents: [Int]) throws {
        let layout = try LayoutCoding.decode(Array("{\"mesh\":[[\"dp\",2]],\"steps\":[\(step)]}".utf8))
        #expect(throws: CairnError.self) { try ShardedShape(layout, shape: Shape(checking: extents)) }
    }

    @Test func paddingThatWouldExplodeIsRefused() throws {
        let mesh = try DeviceMesh(["dp": 2, "tp": 2])
        let wide = try Layout(mesh, [:], padding: [0: .max])
        #expect(throws: CairnError.self) { try ShardedShape(wide, shape: [4, 4]) }
        // Every row ends in padding, so each of a billion would be a box by itself.
        let rows = try Layout(mesh, ["tp": .shard(1), "dp": .flatten(.perTensor)], padding: [1: 8])
        let error = #expect(throws: CairnError.self) { try ShardedShape(rows, shape: [1 << 30, 7]) }
        #expect(error?.code == .unsupported)
    }

    @Test func hugeNumbersThatAreAllowedAreAnsweredAtOnce() throws {
        let mesh = try DeviceMesh(["dp": 1 << 12, "tp": 1 << 12])
        let unit = Int.max - 1
        let steps: KeyValuePairs<String, Placement> = [
            "tp": .shard(0, .chunked, unit: unit), "dp": .shard(0, .balanced, unit: 1 << 50),
        ]
        let sharded = try ShardedShape(Layout(mesh, steps), shape: [Int.max])
        let holders = sharded.holders(of: try Region(offsets: [Int.max - 2], shape: [2]))
        #expect(holders.reduce(0) { $0 + $1.region.elementCount } == 2)
        let flat = try ShardedShape(Layout(mesh, ["dp": .flatten(.perTensor)]), shape: [Int.max])
        #expect(flat.holders(of: try Region(offsets: [Int.max - 2], shape: [2])).first?.ranks.first == 4095 << 12)
        #expect(flat.fragments(ofRank: mesh.rankCount - 1).count == 1)
    }

    @Test func randomlyChangedTextsNeverTrap() throws {
        let bytes = Array(#"0123456789,[]{}":-.eabcdfpqstuvz"#.utf8)
        LayoutSeeds.forEach(4000, of: 6_000_000) { seed in
            var layouts = RandomLayouts(seed: seed)
            let mesh = try layouts.mesh()
            let shape = layouts.shape()
            var text = LayoutCoding.encode(try layouts.layout(of: shape, on: mesh))
            for _ in 0..<layouts.random.pick(1...3) {
                let place = layouts.random.pick(0...text.count - 1)
                switch layouts.random.pick(0...2) {
                case 0: text[place] = layouts.random.element(of: bytes)
                case 1: text.insert(layouts.random.element(of: bytes), at: place)
                default: text.remove(at: place)
                }
            }
            // Either outcome is right; that there is one is what matters.
            guard let layout = try? LayoutCoding.decode(text), let sharded = try? ShardedShape(layout, shape: shape)
            else { return }
            let tensor = PlacedTensor(name: "a", scalarType: .f32, shape: shape, layout: layout)
            _ = try? WritePlan([tensor]).writes(ofRank: layout.mesh.rankCount - 1)
            _ = sharded.fragments(ofRank: 0)
            let region = try layouts.region(of: shape)
            for holder in sharded.holders(of: region) {
                #expect(holder.region.isInside(shape), "seed \(seed)")
            }
        }
    }
}
