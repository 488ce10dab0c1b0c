#include "cairn_crc32c.h"

#include <pthread.h>
#include <string.h>

#include "cairn_level.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_acle.h>
#endif

// All functions below but the public ones work on the raw register, without the inversions at both ends.

static const uint32_t polynomial = 0x82F63B78u;

static inline uint64_t load64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

// MARK: Portable

static uint32_t table[8][256];
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static void fill_table(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t r = i;
        for (int bit = 0; bit < 8; bit++) r = (r >> 1) ^ (polynomial & (0u - (r & 1)));
        table[0][i] = r;
    }
    for (int row = 1; row < 8; row++)
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t r = table[row - 1][i];
            table[row][i] = (r >> 8) ^ table[0][r & 0xFF];
        }
}

// Eight bytes a step (slicing-by-8: Kounavis and Berry, 2005).
static uint32_t update_portable(uint32_t crc, const uint8_t *p, size_t n) {
    pthread_once(&table_once, fill_table);
    for (; n >= 8; p += 8, n -= 8) {
        uint64_t v = load64(p) ^ crc;
        crc = table[7][v & 0xFF] ^ table[6][(v >> 8) & 0xFF] ^ table[5][(v >> 16) & 0xFF] ^
              table[4][(v >> 24) & 0xFF] ^ table[3][(v >> 32) & 0xFF] ^ table[2][(v >> 40) & 0xFF] ^
              table[1][(v >> 48) & 0xFF] ^ table[0][v >> 56];
    }
    for (; n > 0; p++, n--) crc = (crc >> 8) ^ table[0][(crc ^ *p) & 0xFF];
    return crc;
}

#if defined(__x86_64__)

// MARK: SSE4.2

__attribute__((target("sse4.2")))
static uint32_t update_one_stream(uint32_t crc, const uint8_t *p, size_t n) {
    uint64_t r = crc;
    for (; n >= 8; p += 8, n -= 8) r = _mm_crc32_u64(r, load64(p));
    for (; n > 0; p++, n--) r = _mm_crc32_u8((uint32_t)r, *p);
    return (uint32_t)r;
}

// The register after as many zero bytes as `factor` stands for: x^(8 * bytes - 33), reflected.
__attribute__((target("sse4.2,pclmul")))
static inline uint32_t shifted(uint64_t crc, uint32_t factor) {
    __m128i product = _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)crc), _mm_cvtsi32_si128((int)factor), 0);
    return (uint32_t)_mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(product));
}

// The instruction takes three cycles and one can start each cycle: three streams fill it (Gopal et al., Intel 2011).
__attribute__((target("sse4.2,pclmul")))
static inline uint32_t update_three(uint32_t crc, const uint8_t *p, size_t stride, uint32_t by_one, uint32_t by_two) {
    uint64_t a = crc, b = 0, c = 0;
    for (size_t i = 0; i < stride; i += 8) {
        a = _mm_crc32_u64(a, load64(p + i));
        b = _mm_crc32_u64(b, load64(p + stride + i));
        c = _mm_crc32_u64(c, load64(p + 2 * stride + i));
    }
    return shifted(a, by_two) ^ shifted(b, by_one) ^ (uint32_t)c;
}

// Long streams because the hardware's prefetcher loses short ones (21 GB/s from memory, 7 with strides of 1 KiB).
__attribute__((target("sse4.2,pclmul")))
static uint32_t update_sse42(uint32_t crc, const uint8_t *p, size_t n) {
    enum { wide = 65536, mid = 1024, narrow = 64 };
    for (; n >= 3 * wide; p += 3 * wide, n -= 3 * wide) crc = update_three(crc, p, wide, 0xc5013a36u, 0xac2ac6ddu);
    for (; n >= 3 * mid; p += 3 * mid, n -= 3 * mid) crc = update_three(crc, p, mid, 0x170076fau, 0xa51b6135u);
    for (; n >= 3 * narrow; p += 3 * narrow, n -= 3 * narrow)
        crc = update_three(crc, p, narrow, 0x9e4addf8u, 0x0d3b6092u);
    return update_one_stream(crc, p, n);
}

// MARK: AVX-512

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,vpclmulqdq,pclmul,sse4.2")))

// `older`, moved by the distance that `factors` stands for, plus `newer`. For a distance of d bits the factors are
// x^(d + 31) for the low half of each 128-bit lane and x^(d - 33) for the high half, reflected.
AVX512 static inline __m512i folded(__m512i older, __m512i factors, __m512i newer) {
    __m512i low = _mm512_clmulepi64_epi128(older, factors, 0x00);
    __m512i high = _mm512_clmulepi64_epi128(older, factors, 0x11);
    return _mm512_ternarylogic_epi64(low, high, newer, 0x96);
}

// Folds 256 bytes a step, then leaves the last 64 bytes' worth to the scalar instruction.
AVX512 static uint32_t update_avx512(uint32_t crc, const uint8_t *p, size_t n) {
    if (n < 256) return update_sse42(crc, p, n);
    __m512i a = _mm512_xor_si512(_mm512_loadu_si512(p), _mm512_zextsi128_si512(_mm_cvtsi32_si128((int)crc)));
    __m512i b = _mm512_loadu_si512(p + 64);
    __m512i c = _mm512_loadu_si512(p + 128);
    __m512i d = _mm512_loadu_si512(p + 192);
    p += 256, n -= 256;
    const __m512i by_2048 = _mm512_broadcast_i32x4(_mm_set_epi64x(0xb9e02b86, 0xdcb17aa4));
    for (; n >= 256; p += 256, n -= 256) {
        a = folded(a, by_2048, _mm512_loadu_si512(p));
        b = folded(b, by_2048, _mm512_loadu_si512(p + 64));
        c = folded(c, by_2048, _mm512_loadu_si512(p + 128));
        d = folded(d, by_2048, _mm512_loadu_si512(p + 192));
    }
    const __m512i by_512 = _mm512_broadcast_i32x4(_mm_set_epi64x(0x9e4addf8, 0x740eef02));
    d = folded(folded(folded(a, by_512, b), by_512, c), by_512, d);
    for (; n >= 64; p += 64, n -= 64) d = folded(d, by_512, _mm512_loadu_si512(p));
    uint8_t rest[64];
    _mm512_storeu_si512(rest, d);
    return update_one_stream(update_one_stream(0, rest, sizeof rest), p, n);
}

uint32_t cairn_crc32c_at_level(int level, uint32_t crc, const void *bytes, size_t count) {
    int highest = cairn_instruction_level();
    if (level > highest) level = highest;
    if (level >= 3) return ~update_avx512(~crc, bytes, count);
    if (level >= 1) return ~update_sse42(~crc, bytes, count);
    return ~update_portable(~crc, bytes, count);
}

#elif defined(__aarch64__)

// MARK: arm64

// The product of two polynomials modulo the CRC's, both reflected: bit 31 is the coefficient of x^0.
static uint32_t multiply(uint32_t a, uint32_t b) {
    uint32_t product = 0;
    for (int bit = 31; bit >= 0; bit--) {
        product ^= b & (0u - ((a >> bit) & 1));
        b = (b >> 1) ^ (polynomial & (0u - (b & 1)));
    }
    return product;
}

__attribute__((target("crc")))
static uint32_t update_one_stream(uint32_t crc, const uint8_t *p, size_t n) {
    for (; n >= 8; p += 8, n -= 8) crc = __crc32cd(crc, load64(p));
    for (; n > 0; p++, n--) crc = __crc32cb(crc, *p);
    return crc;
}

// Three streams hide the instruction's latency; long ones make the merge free.
__attribute__((target("crc")))
static uint32_t update_arm64(uint32_t crc, const uint8_t *p, size_t n) {
    enum { stride = 4096 };
    while (n >= 3 * stride) {
        uint32_t a = crc, b = 0, c = 0;
        for (size_t i = 0; i < stride; i += 8) {
            a = __crc32cd(a, load64(p + i));
            b = __crc32cd(b, load64(p + stride + i));
            c = __crc32cd(c, load64(p + 2 * stride + i));
        }
        const uint32_t by_stride = 0x35d73a62u;  // x^(8 * 4096)
        crc = multiply(by_stride, multiply(by_stride, a) ^ b) ^ c;
        p += 3 * stride, n -= 3 * stride;
    }
    return update_one_stream(crc, p, n);
}

uint32_t cairn_crc32c_at_level(int level, uint32_t crc, const void *bytes, size_t count) {
    int highest = cairn_instruction_level();
    if (level > highest) level = highest;
    return level >= 1 ? ~update_arm64(~crc, bytes, count) : ~update_portable(~crc, bytes, count);
}

#else

uint32_t cairn_crc32c_at_level(int level, uint32_t crc, const void *bytes, size_t count) {
    (void)level;
    return ~update_portable(~crc, bytes, count);
}

#endif

uint32_t cairn_crc32c(uint32_t crc, const void *bytes, size_t count) {
    return cairn_crc32c_at_level(CAIRN_LEVEL_HIGHEST, crc, bytes, count);
}
