import CairnTensor
import Testing

@Suite struct ScalarTypeTests {
    @Test func packedTypesCountOnlyWholeBytes() {
        #expect(ScalarType.f4.byteCount(elementCount: 6) == 3)
        #expect(ScalarType.f4.byteCount(elementCount: 5) == nil)
        #expect(ScalarType.f6e2m3.byteCount(elementCount: 4) == 3)
        #expect(ScalarType.f6e3m2.byteCount(elementCount: 2) == nil)
    }

    @Test func byteCountsThatOverflowAreRefused() {
        #expect(ScalarType.f64.byteCount(elementCount: Int.max) == nil)
        #expect(ScalarType.u8.byteCount(elementCount: Int.max) == Int.max)
        #expect(ScalarType.f32.byteCount(elementCount: -1) == nil)
    }
}
