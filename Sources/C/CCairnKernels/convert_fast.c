#include "convert_kernels.h"

#include "cairn_convert.h"
#include "float_formats.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

// MARK: Bodies
//
// Plain loops, compiled once for each level: the compiler vectorises them for the instructions of the function that
// they are inlined into.

#define BODY INLINE void
#define ARGUMENTS const uint8_t *restrict s, uint8_t *restrict d, size_t n, int saturate

// A loop that reads elements of type `from` as `v` and writes `expression` as type `to`.
#define DEFINE_BODY(name, from, to, expression)                                                                        \
    BODY name##_body(ARGUMENTS) {                                                                                      \
        (void)saturate;                                                                                                \
        for (size_t i = 0; i < n; i++) {                                                                               \
            from v;                                                                                                    \
            memcpy(&v, s + i * sizeof v, sizeof v);                                                                    \
            to r = (to)(expression);                                                                                   \
            memcpy(d + i * sizeof r, &r, sizeof r);                                                                    \
        }                                                                                                              \
    }

// One loop for each way to overflow, so that neither asks within.
#define DEFINE_NARROW_BODY(name, format)                                                                               \
    DEFINE_BODY(name##_ieee, float, uint8_t, encode_float(v, format, 0))                                               \
    DEFINE_BODY(name##_saturating, float, uint8_t, encode_float(v, format, 1))                                         \
    BODY name##_body(ARGUMENTS) {                                                                                      \
        if (saturate) name##_saturating_body(s, d, n, 1);                                                              \
        else name##_ieee_body(s, d, n, 0);                                                                             \
    }

DEFINE_NARROW_BODY(e5m2_of_f32, format_e5m2)
DEFINE_NARROW_BODY(e4m3_of_f32, format_e4m3)
DEFINE_NARROW_BODY(e5m2fnuz_of_f32, format_e5m2fnuz)
DEFINE_NARROW_BODY(e4m3fnuz_of_f32, format_e4m3fnuz)
DEFINE_BODY(bf16_of_f32, float, uint16_t, encode_float(v, format_bf16, 0))
DEFINE_BODY(f32_of_bf16, uint16_t, float, decode_float(v, format_bf16))
DEFINE_BODY(f64_of_f32, float, double, v)
DEFINE_BODY(f32_of_f64, double, float, v)

// A table of 256 values beats arithmetic that must avoid slow subnormal operands.
#define DEFINE_TABLE_BODY(name, format)                                                                                \
    BODY name##_body(ARGUMENTS) {                                                                                      \
        (void)saturate;                                                                                                \
        float table[256];                                                                                              \
        for (uint32_t code = 0; code < 256; code++) table[code] = decode_float(code, format);                          \
        for (size_t i = 0; i < n; i++) memcpy(d + 4 * i, &table[s[i]], 4);                                             \
    }

DEFINE_TABLE_BODY(f32_of_e5m2, format_e5m2)
DEFINE_TABLE_BODY(f32_of_e4m3, format_e4m3)
DEFINE_TABLE_BODY(f32_of_e5m2fnuz, format_e5m2fnuz)
DEFINE_TABLE_BODY(f32_of_e4m3fnuz, format_e4m3fnuz)

#define COMPILE(name, suffix, attributes)                                                                              \
    attributes static void name##_##suffix(ARGUMENTS) { name##_body(s, d, n, saturate); }

#define COMPILE_ALL(suffix, attributes)                                                                                \
    COMPILE(e5m2_of_f32, suffix, attributes)                                                                           \
    COMPILE(e4m3_of_f32, suffix, attributes)                                                                           \
    COMPILE(e5m2fnuz_of_f32, suffix, attributes)                                                                       \
    COMPILE(e4m3fnuz_of_f32, suffix, attributes)                                                                       \
    COMPILE(bf16_of_f32, suffix, attributes)                                                                           \
    COMPILE(f32_of_bf16, suffix, attributes)                                                                           \
    COMPILE(f64_of_f32, suffix, attributes)                                                                            \
    COMPILE(f32_of_f64, suffix, attributes)

#define COMPILE_TABLES(suffix, attributes)                                                                             \
    COMPILE(f32_of_e5m2, suffix, attributes)                                                                           \
    COMPILE(f32_of_e4m3, suffix, attributes)                                                                           \
    COMPILE(f32_of_e5m2fnuz, suffix, attributes)                                                                       \
    COMPILE(f32_of_e4m3fnuz, suffix, attributes)

#define TO_F32(suffix, tables)                                                                                         \
    {                                                                                                                  \
        [CAIRN_F8_E5M2] = f32_of_e5m2_##tables, [CAIRN_F8_E4M3] = f32_of_e4m3_##tables,                                \
        [CAIRN_F8_E5M2FNUZ] = f32_of_e5m2fnuz_##tables, [CAIRN_F8_E4M3FNUZ] = f32_of_e4m3fnuz_##tables,                \
        [CAIRN_F16] = f32_of_f16_##suffix, [CAIRN_BF16] = f32_of_bf16_##suffix, [CAIRN_F64] = f32_of_f64_##suffix,     \
    }

#define FROM_F32(suffix)                                                                                               \
    {                                                                                                                  \
        [CAIRN_F8_E5M2] = e5m2_of_f32_##suffix, [CAIRN_F8_E4M3] = e4m3_of_f32_##suffix,                                \
        [CAIRN_F8_E5M2FNUZ] = e5m2fnuz_of_f32_##suffix, [CAIRN_F8_E4M3FNUZ] = e4m3fnuz_of_f32_##suffix,                \
        [CAIRN_F16] = f16_of_f32_##suffix, [CAIRN_BF16] = bf16_of_f32_##suffix, [CAIRN_F64] = f64_of_f32_##suffix,     \
    }

#if defined(__x86_64__)

// MARK: x86-64

#define AVX2 __attribute__((target("avx2,f16c")))
#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,f16c")))

COMPILE_ALL(avx2, AVX2)
COMPILE_TABLES(avx2, AVX2)
COMPILE_ALL(avx512, AVX512)

// The elements that fill no vector.
INLINE void f32_of_f16_rest(const uint8_t *s, uint8_t *d, size_t first, size_t n) {
    for (size_t i = first; i < n; i++) {
        uint16_t v;
        memcpy(&v, s + 2 * i, 2);
        float r = decode_float(v, format_f16);
        memcpy(d + 4 * i, &r, 4);
    }
}

INLINE void f16_of_f32_rest(const uint8_t *s, uint8_t *d, size_t first, size_t n) {
    for (size_t i = first; i < n; i++) {
        float v;
        memcpy(&v, s + 4 * i, 4);
        uint16_t r = (uint16_t)encode_double(v, format_f16, 0);
        memcpy(d + 2 * i, &r, 2);
    }
}

AVX2 static void f32_of_f16_avx2(ARGUMENTS) {
    (void)saturate;
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps((float *)(d + 4 * i), _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(s + 2 * i))));
    f32_of_f16_rest(s, d, i, n);
}

AVX2 static void f16_of_f32_avx2(ARGUMENTS) {
    (void)saturate;
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(d + 2 * i),
                         _mm256_cvtps_ph(_mm256_loadu_ps((const float *)(s + 4 * i)), _MM_FROUND_TO_NEAREST_INT));
    f16_of_f32_rest(s, d, i, n);
}

AVX512 static void f32_of_f16_avx512(ARGUMENTS) {
    (void)saturate;
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        _mm512_storeu_ps(d + 4 * i, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(s + 2 * i))));
    f32_of_f16_rest(s, d, i, n);
}

AVX512 static void f16_of_f32_avx512(ARGUMENTS) {
    (void)saturate;
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        _mm256_storeu_si256((__m256i *)(d + 2 * i),
                            _mm512_cvtps_ph(_mm512_loadu_ps(s + 4 * i), _MM_FROUND_TO_NEAREST_INT));
    f16_of_f32_rest(s, d, i, n);
}

static convert_kernel *const to_f32[2][CAIRN_SCALAR_COUNT] = {
    // The gathers of AVX-512 are slower than the loads of AVX2.
    TO_F32(avx2, avx2), TO_F32(avx512, avx2),
};
static convert_kernel *const from_f32[2][CAIRN_SCALAR_COUNT] = {FROM_F32(avx2), FROM_F32(avx512)};

convert_kernel *cairn_kernel_to_f32(int level, int type) { return level >= 2 ? to_f32[level >= 3][type] : 0; }
convert_kernel *cairn_kernel_from_f32(int level, int type) { return level >= 2 ? from_f32[level >= 3][type] : 0; }

#elif defined(__aarch64__)

// MARK: arm64, whose baseline converts F16

DEFINE_BODY(f32_of_f16, __fp16, float, v)
DEFINE_BODY(f16_of_f32, float, __fp16, v)
COMPILE_ALL(arm64, )
COMPILE_TABLES(arm64, )
COMPILE(f32_of_f16, arm64, )
COMPILE(f16_of_f32, arm64, )

static convert_kernel *const to_f32[CAIRN_SCALAR_COUNT] = TO_F32(arm64, arm64);
static convert_kernel *const from_f32[CAIRN_SCALAR_COUNT] = FROM_F32(arm64);

convert_kernel *cairn_kernel_to_f32(int level, int type) { return level >= 1 ? to_f32[type] : 0; }
convert_kernel *cairn_kernel_from_f32(int level, int type) { return level >= 1 ? from_f32[type] : 0; }

#else

convert_kernel *cairn_kernel_to_f32(int level, int type) { return (void)level, (void)type, (convert_kernel *)0; }
convert_kernel *cairn_kernel_from_f32(int level, int type) { return (void)level, (void)type, (convert_kernel *)0; }

#endif
