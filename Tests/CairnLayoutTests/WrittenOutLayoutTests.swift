import CairnBase
import CairnLayout
import CairnTensor
import Testing

/// Layouts small enough to be checked by hand.
@Suite struct WrittenOutLayoutTests {
    private func globals(_ layout: Layout, _ shape: Shape) throws -> [String] {
        let sharded = try ShardedShape(layout, shape: shape)
        return (0..<layout.mesh.rankCount).map { rank in
            sharded.fragments(ofRank: rank).map { "\($0.global)" }.joined(separator: " ")
        }
    }

    @Test func sevenRowsOverThreeRanksAreThreeThreeAndOneWhenChunkedAsDTensorDoes() throws {
        let mesh = try DeviceMesh(["dp": 3])
        #expect(
            try globals(Layout(mesh, ["dp": .shard(0, .chunked)]), [7, 2])
                == ["[0..<3, 0..<2]", "[3..<6, 0..<2]", "[6..<7, 0..<2]"])
        #expect(try globals(Layout(mesh, ["dp": .shard(0, .balanced)]), [7]) == ["[0..<3]", "[3..<5]", "[5..<7]"])
        #expect(try globals(Layout(mesh, ["dp": .shard(0, .sizes([1, 0, 6]))]), [7]) == ["[0..<1]", "", "[1..<7]"])
        #expect(try globals(Layout(mesh, ["dp": .shard(0, .chunked)]), [2]) == ["[0..<1]", "[1..<2]", ""])
    }

    @Test func unitsStayTogether() throws {
        let mesh = try DeviceMesh(["tp": 2])
        // Three heads of 4 and a short one of 2: two heads each.
        #expect(try globals(Layout(mesh, ["tp": .shard(0, .chunked, unit: 4)]), [14]) == ["[0..<8]", "[8..<14]"])
        #expect(try globals(Layout(mesh, ["tp": .shard(0, .balanced, unit: 4)]), [12]) == ["[0..<8]", "[8..<12]"])
    }

    /// Four query heads, two key heads and two value heads of 2 rows each: `q q q q q q q q k k k k v v v v`.
    @Test func fusedQueryKeyValueIsSplitByHeadsWithinEachOfTheThree() throws {
        let mesh = try DeviceMesh(["tp": 2])
        let sections: [Sharding.Section] = [.init(size: 8, unit: 2), .init(size: 4, unit: 2), .init(size: 4, unit: 2)]
        let sharded = try ShardedShape(Layout(mesh, ["tp": .shard(0, sections: sections)]), shape: [16, 3])
        #expect(sharded.localShape(ofRank: 0) == [8, 3])
        #expect(
            sharded.fragments(ofRank: 0).map { "\($0)" } == [
                "[0..<4, 0..<3] at [0..<4, 0..<3]", "[8..<10, 0..<3] at [4..<6, 0..<3]",
                "[12..<14, 0..<3] at [6..<8, 0..<3]",
            ])
        #expect(
            sharded.fragments(ofRank: 1).map { "\($0)" } == [
                "[4..<8, 0..<3] at [0..<4, 0..<3]", "[10..<12, 0..<3] at [4..<6, 0..<3]",
                "[14..<16, 0..<3] at [6..<8, 0..<3]",
            ])
    }

    /// Two experts, each `gate gate up up`, split over two ranks within each half of each expert.
    @Test func aPatternOfSectionsRepeats() throws {
        let mesh = try DeviceMesh(["tp": 2])
        let layout = try Layout(mesh, ["tp": .shard(0, sections: [.init(size: 2), .init(size: 2)], repeats: 2)])
        #expect(
            try globals(layout, [8]) == ["[0..<1] [2..<3] [4..<5] [6..<7]", "[1..<2] [3..<4] [5..<6] [7..<8]"])
    }

    @Test func orderOfStepsTellsFSDPOverTensorParallelismFromTheReverse() throws {
        let mesh = try DeviceMesh(["dp": 2, "tp": 2])
        // Ranks: dp 0 tp 0, dp 0 tp 1, dp 1 tp 0, dp 1 tp 1.
        #expect(
            try globals(Layout(mesh, ["tp": .shard(0), "dp": .shard(0)]), [8])
                == ["[0..<2]", "[4..<6]", "[2..<4]", "[6..<8]"])
        #expect(
            try globals(Layout(mesh, ["dp": .shard(0), "tp": .shard(0)]), [8])
                == ["[0..<2]", "[2..<4]", "[4..<6]", "[6..<8]"])
    }

    /// Buffer of 16: `a a a a | a - b b | b b b b | c c c -`, 4 elements a rank, tensors aligned to 2.
    @Test func flatGroupCutsThreeTensorsOverFourRanks() throws {
        let mesh = try DeviceMesh(["dp": 4])
        let group = try Flattening.group(counts: [5, 6, 3], parts: 4, alignment: 2, paddedToMultipleOf: 8)
        #expect(group.map(\.start) == [0, 6, 12])
        #expect(group.allSatisfy { $0.partition == .equal(4) })
        func layout(_ index: Int) throws -> Layout { try Layout(mesh, ["dp": .flatten(group[index])]) }
        #expect(try globals(layout(0), [5]) == ["[0..<4]", "[4..<5]", "", ""])
        #expect(
            try globals(layout(1), [2, 3]) == ["", "[0..<1, 0..<2]", "[0..<1, 2..<3] [1..<2, 0..<3]", ""])
        #expect(try globals(layout(2), [3]) == ["", "", "", "[0..<3]"])
        let b = try ShardedShape(layout(1), shape: [2, 3])
        #expect((0..<4).map { b.localShape(ofRank: $0) } == [[0], [2], [4], [0]])
        #expect(
            b.fragments(ofRank: 2).map { "\($0)" } == ["[0..<1, 2..<3] at [0..<1]", "[1..<2, 0..<3] at [1..<4]"])
    }

    @Test func aRunOverThreeDimensionsIsAtMostFiveBoxes() throws {
        let mesh = try DeviceMesh(["dp": 3])
        let layout = try Layout(mesh, ["dp": .flatten(.init(partition: .cuts([0, 7, 53, 60])))])
        #expect(
            try globals(layout, [3, 4, 5])[1]
                == "[0..<1, 1..<2, 2..<5] [0..<1, 2..<4, 0..<5] [1..<2, 0..<4, 0..<5] [2..<3, 0..<2, 0..<5] "
                + "[2..<3, 2..<3, 0..<3]")
    }

    @Test func paddedVocabularyHasRoomInTheLastRankAndIsNotCovered() throws {
        let mesh = try DeviceMesh(["tp": 8])
        let layout = try Layout(mesh, ["tp": .shard(0)], padding: [0: 50304])
        let sharded = try ShardedShape(layout, shape: [50257, 768])
        #expect((0..<8).allSatisfy { sharded.localShape(ofRank: $0) == [6288, 768] })
        #expect(sharded.fragments(ofRank: 7).map { "\($0)" } == ["[44016..<50257, 0..<768] at [0..<6241, 0..<768]"])
        #expect("\(sharded)" == "[50257, 768] on tp=8: tp: shard 0, dimension 0 padded to 50304")
    }

    @Test func presenceLeavesTheOthersWithoutTheTensor() throws {
        let mesh = try DeviceMesh(["pp": 3, "dp": 2])
        let sharded = try ShardedShape(Layout(mesh, ["pp": .present(on: [0, 2])]), shape: [4])
        #expect((0..<6).map { sharded.localShape(ofRank: $0) } == [[4], [4], nil, nil, [4], [4]])
        #expect(sharded.holders(of: Region(whole: [4])).map { Array($0.ranks) } == [[0, 1, 4, 5]])
    }

    @Test func aScalarIsHeldWholeByTheFirstCoordinateWhenFlattened() throws {
        let mesh = try DeviceMesh(["dp": 2])
        let sharded = try ShardedShape(Layout(mesh, ["dp": .flatten(.perTensor)]), shape: .scalar)
        #expect((0..<2).map { sharded.localShape(ofRank: $0) } == [[1], [0]])
        #expect(sharded.fragments(ofRank: 0).map { "\($0)" } == ["[] at [0..<1]"])
        #expect(sharded.fragments(ofRank: 1).isEmpty)
    }

    @Test func meshesAreReadAsPeopleWriteThem() throws {
        let mesh = try DeviceMesh(parsing: "dp=2, tp=4")
        #expect(try mesh == DeviceMesh(["dp": 2, "tp": 4]))
        #expect("\(mesh)" == "dp=2,tp=4")
        #expect(mesh.coordinates(ofRank: 5) == [1, 1])
        #expect(mesh.rank(at: [1, 1]) == 5)
        #expect(mesh.coordinate(ofRank: 5, along: "dp") == 1)
        #expect(mesh.coordinate(ofRank: 8, along: "dp") == nil)
        #expect(try DeviceMesh(parsing: "").rankCount == 1)
        for text in ["dp", "dp=", "dp=x", "dp=0", "dp=2,dp=2", "=2", ",", "dp=2,", "d p=2", "dp=99999999"] {
            #expect(throws: CairnError.self, "\(text)") { try DeviceMesh(parsing: text) }
        }
    }

    @Test func jsonOfALayoutIsAsDocumented() throws {
        let mesh = try DeviceMesh(["dp": 2, "tp": 4, "pp": 2])
        let layout = try Layout(
            mesh,
            [
                "tp": .shard(0, sections: [.init(size: 8, unit: 2), .init(size: 4)], repeats: 3),
                "pp": .present(on: [1]), "dp": .flatten(.init(start: 6, partition: .equal(40))),
            ], padding: [0: 36])
        #expect(
            String(decoding: LayoutCoding.encode(layout), as: UTF8.self)
                == #"{"mesh":[["dp",2],["tp",4],["pp",2]],"steps":[["tp","shard",0,{"sections":[{"size":8,"unit":2},"#
                + #"{"size":4}],"repeats":3}],["pp","present",[1]],["dp","flatten",{"start":6,"equal":40}]],"#
                + #""padding":[[0,36]]}"#)
        let placed = try Layout(
            DeviceMesh(["dp": 2]), explicit: [[], [Region(offsets: [1, 0], shape: [2, 3])]])
        #expect(
            String(decoding: LayoutCoding.encode(placed), as: UTF8.self)
                == #"{"mesh":[["dp",2]],"explicit":[[],[[[1,0],[2,3]]]]}"#)
        #expect(
            "\(layout)"
                == "tp: shard 0 in (8 unit 2 | 4) x 3, pp: present 1, dp: flatten equal 40 from 6, "
                + "dimension 0 padded to 36")
    }
}
