#include "cairn_crc32.h"

#include "cairn_level.h"

#if defined(__x86_64__)
#include <immintrin.h>

// Four registers of 128 bits are folded over the data, then into one, then reduced to 32 bits by Barrett's method. The
// constants are powers of x modulo the polynomial, reflected (Gopal et al., "Fast CRC Computation for Generic Polynomials
// Using PCLMULQDQ Instruction", Intel 2009; the same numbers are in Linux and in Chromium's zlib).
__attribute__((target("sse4.2,pclmul")))
static uint32_t fold(uint32_t crc, const uint8_t *p, size_t n) {
    const __m128i by_four = _mm_set_epi64x(0x01c6e41596, 0x0154442bd4);
    const __m128i by_one = _mm_set_epi64x(0x00ccaa009e, 0x01751997d0);
    const __m128i to_64 = _mm_set_epi64x(0, 0x0163cd6124);
    const __m128i barrett = _mm_set_epi64x(0x01f7011641, 0x01db710641);
    __m128i a = _mm_loadu_si128((const __m128i *)p), b = _mm_loadu_si128((const __m128i *)(p + 16));
    __m128i c = _mm_loadu_si128((const __m128i *)(p + 32)), d = _mm_loadu_si128((const __m128i *)(p + 48));
    a = _mm_xor_si128(a, _mm_cvtsi32_si128((int)crc));
    p += 64;
    n -= 64;
#define FOLD(x, k, next) \
    _mm_xor_si128(_mm_xor_si128(_mm_clmulepi64_si128(x, k, 0x00), _mm_clmulepi64_si128(x, k, 0x11)), next)
    for (; n >= 64; p += 64, n -= 64) {
        a = FOLD(a, by_four, _mm_loadu_si128((const __m128i *)p));
        b = FOLD(b, by_four, _mm_loadu_si128((const __m128i *)(p + 16)));
        c = FOLD(c, by_four, _mm_loadu_si128((const __m128i *)(p + 32)));
        d = FOLD(d, by_four, _mm_loadu_si128((const __m128i *)(p + 48)));
    }
    a = FOLD(a, by_one, b);
    a = FOLD(a, by_one, c);
    a = FOLD(a, by_one, d);
    for (; n >= 16; p += 16, n -= 16) a = FOLD(a, by_one, _mm_loadu_si128((const __m128i *)p));
#undef FOLD
    const __m128i low = _mm_setr_epi32(~0, 0, ~0, 0);
    __m128i t = _mm_clmulepi64_si128(a, by_one, 0x10);
    a = _mm_xor_si128(_mm_srli_si128(a, 8), t);
    t = _mm_srli_si128(a, 4);
    a = _mm_xor_si128(_mm_clmulepi64_si128(_mm_and_si128(a, low), to_64, 0x00), t);
    t = _mm_clmulepi64_si128(_mm_and_si128(a, low), barrett, 0x10);
    t = _mm_clmulepi64_si128(_mm_and_si128(t, low), barrett, 0x00);
    return (uint32_t)_mm_extract_epi32(_mm_xor_si128(a, t), 1);
}
#endif

size_t cairn_crc32_fold(uint32_t *crc, const void *bytes, size_t count) {
#if defined(__x86_64__)
    size_t whole = count & ~(size_t)15;
    if (whole < 64 || cairn_instruction_level() < 1) return 0;
    *crc = ~fold(~*crc, bytes, whole);
    return whole;
#else
    (void)crc;
    (void)bytes;
    (void)count;
    return 0;
#endif
}
