#include "convert_kernels.h"

#include <float.h>

#include "cairn_convert.h"
#include "float_formats.h"

// MARK: Elements

// The double from which rounding to fewer than 52 bits gives what rounding `v` itself would: exact when `v` fits, else
// odd in the last place when bits were lost ("round to odd": Boldo and Melquiond, 2008).
INLINE double odd_double_of_magnitude(uint64_t v) {
    if (v >> 53) v = (v & ~0x7FFull) | (v & 0x7FF ? 0x800 : 0);
    return (double)v;
}

INLINE double odd_double_of_u64(uint64_t v) { return odd_double_of_magnitude(v); }

INLINE double odd_double_of_i64(int64_t v) {
    return v < 0 ? -odd_double_of_magnitude(0 - (uint64_t)v) : odd_double_of_magnitude((uint64_t)v);
}

// Truncation toward zero into a type whose limits are doubles; NaN becomes 0.
INLINE int64_t truncated(double v, double lowest, double highest) {
    v = v != v ? 0 : v;
    v = v < lowest ? lowest : v;
    return (int64_t)(v > highest ? highest : v);
}

INLINE uint64_t truncated_to_i64(double v) {
    if (v >= 0x1p63) return INT64_MAX;
    if (v < -0x1p63) return (uint64_t)INT64_MIN;
    return v != v ? 0 : (uint64_t)(int64_t)v;
}

INLINE uint64_t truncated_to_u64(double v) {
    if (v >= 0x1p64) return UINT64_MAX;
    return v > 0 ? (uint64_t)v : 0;
}

INLINE float rounded_to_f32(double v, int saturate) {
    float r = (float)v;
    if (saturate && r > FLT_MAX) return FLT_MAX;
    return saturate && r < -FLT_MAX ? -FLT_MAX : r;
}

INLINE double finite(double v, int saturate) {
    if (saturate && v > DBL_MAX) return DBL_MAX;
    return saturate && v < -DBL_MAX ? -DBL_MAX : v;
}

INLINE int64_t clamped(int64_t v, int64_t lowest, int64_t highest, int saturate) {
    if (!saturate) return v;
    return v < lowest ? lowest : v > highest ? highest : v;
}

// MARK: Blocks

// A loop that reads elements of type `from` as `v` and writes `expression` as type `to`.
#define DEFINE_LOOP(name, from, to, expression)                                                                        \
    static void name(const uint8_t *restrict s, uint8_t *restrict d, size_t n, int saturate) {                         \
        (void)saturate;                                                                                                \
        for (size_t i = 0; i < n; i++) {                                                                               \
            from v;                                                                                                    \
            memcpy(&v, s + i * sizeof v, sizeof v);                                                                    \
            to r = (to)(expression);                                                                                   \
            memcpy(d + i * sizeof r, &r, sizeof r);                                                                    \
        }                                                                                                              \
    }

DEFINE_LOOP(real_of_bool, uint8_t, double, v != 0)
DEFINE_LOOP(real_of_u8, uint8_t, double, v)
DEFINE_LOOP(real_of_i8, int8_t, double, v)
DEFINE_LOOP(real_of_u16, uint16_t, double, v)
DEFINE_LOOP(real_of_i16, int16_t, double, v)
DEFINE_LOOP(real_of_u32, uint32_t, double, v)
DEFINE_LOOP(real_of_i32, int32_t, double, v)
DEFINE_LOOP(real_of_u64, uint64_t, double, odd_double_of_u64(v))
DEFINE_LOOP(real_of_i64, int64_t, double, odd_double_of_i64(v))
DEFINE_LOOP(real_of_e5m2, uint8_t, double, decode_float(v, format_e5m2))
DEFINE_LOOP(real_of_e4m3, uint8_t, double, decode_float(v, format_e4m3))
DEFINE_LOOP(real_of_e8m0, uint8_t, double, decode_e8m0(v))
DEFINE_LOOP(real_of_e4m3fnuz, uint8_t, double, decode_float(v, format_e4m3fnuz))
DEFINE_LOOP(real_of_e5m2fnuz, uint8_t, double, decode_float(v, format_e5m2fnuz))
DEFINE_LOOP(real_of_f16, uint16_t, double, decode_float(v, format_f16))
DEFINE_LOOP(real_of_bf16, uint16_t, double, decode_float(v, format_bf16))
DEFINE_LOOP(real_of_f32, float, double, v)
DEFINE_LOOP(real_of_f64, double, double, v)

static convert_kernel *const to_real[CAIRN_SCALAR_COUNT] = {
    real_of_bool, real_of_u8, real_of_i8, real_of_u16, real_of_i16, real_of_u32, real_of_i32, real_of_u64, real_of_i64,
    real_of_e5m2, real_of_e4m3, real_of_e8m0, real_of_e4m3fnuz, real_of_e5m2fnuz,
    real_of_f16, real_of_bf16, real_of_f32, real_of_f64,
};

DEFINE_LOOP(bool_of_real, double, uint8_t, v != 0)
DEFINE_LOOP(u8_of_real, double, uint8_t, truncated(v, 0, UINT8_MAX))
DEFINE_LOOP(i8_of_real, double, int8_t, truncated(v, INT8_MIN, INT8_MAX))
DEFINE_LOOP(u16_of_real, double, uint16_t, truncated(v, 0, UINT16_MAX))
DEFINE_LOOP(i16_of_real, double, int16_t, truncated(v, INT16_MIN, INT16_MAX))
DEFINE_LOOP(u32_of_real, double, uint32_t, truncated(v, 0, UINT32_MAX))
DEFINE_LOOP(i32_of_real, double, int32_t, truncated(v, INT32_MIN, INT32_MAX))
DEFINE_LOOP(u64_of_real, double, uint64_t, truncated_to_u64(v))
DEFINE_LOOP(i64_of_real, double, uint64_t, truncated_to_i64(v))
DEFINE_LOOP(e5m2_of_real, double, uint8_t, encode_double(v, format_e5m2, saturate))
DEFINE_LOOP(e4m3_of_real, double, uint8_t, encode_double(v, format_e4m3, saturate))
DEFINE_LOOP(e8m0_of_real, double, uint8_t, encode_e8m0(v, saturate))
DEFINE_LOOP(e4m3fnuz_of_real, double, uint8_t, encode_double(v, format_e4m3fnuz, saturate))
DEFINE_LOOP(e5m2fnuz_of_real, double, uint8_t, encode_double(v, format_e5m2fnuz, saturate))
DEFINE_LOOP(f16_of_real, double, uint16_t, encode_double(v, format_f16, saturate))
DEFINE_LOOP(bf16_of_real, double, uint16_t, encode_double(v, format_bf16, saturate))
DEFINE_LOOP(f32_of_real, double, float, rounded_to_f32(v, saturate))
DEFINE_LOOP(f64_of_real, double, double, finite(v, saturate))

static convert_kernel *const from_real[CAIRN_SCALAR_COUNT] = {
    bool_of_real, u8_of_real, i8_of_real, u16_of_real, i16_of_real, u32_of_real, i32_of_real, u64_of_real, i64_of_real,
    e5m2_of_real, e4m3_of_real, e8m0_of_real, e4m3fnuz_of_real, e5m2fnuz_of_real,
    f16_of_real, bf16_of_real, f32_of_real, f64_of_real,
};

// Integers pass as 64-bit two's complement, so that wrapping is cutting off. A U64 that would look negative to a clamp
// is limited first: every other type's largest value is smaller.
DEFINE_LOOP(integer_of_bool, uint8_t, int64_t, v != 0)
DEFINE_LOOP(integer_of_u8, uint8_t, int64_t, v)
DEFINE_LOOP(integer_of_i8, int8_t, int64_t, v)
DEFINE_LOOP(integer_of_u16, uint16_t, int64_t, v)
DEFINE_LOOP(integer_of_i16, int16_t, int64_t, v)
DEFINE_LOOP(integer_of_u32, uint32_t, int64_t, v)
DEFINE_LOOP(integer_of_i32, int32_t, int64_t, v)
DEFINE_LOOP(integer_of_u64, uint64_t, int64_t, saturate && v > INT64_MAX ? INT64_MAX : v)
DEFINE_LOOP(integer_of_i64, int64_t, int64_t, v)

static convert_kernel *const to_integer[CAIRN_F8_E5M2] = {
    integer_of_bool, integer_of_u8, integer_of_i8, integer_of_u16, integer_of_i16, integer_of_u32, integer_of_i32,
    integer_of_u64, integer_of_i64,
};

DEFINE_LOOP(bool_of_integer, int64_t, uint8_t, v != 0)
DEFINE_LOOP(u8_of_integer, int64_t, uint8_t, clamped(v, 0, UINT8_MAX, saturate))
DEFINE_LOOP(i8_of_integer, int64_t, uint8_t, clamped(v, INT8_MIN, INT8_MAX, saturate))
DEFINE_LOOP(u16_of_integer, int64_t, uint16_t, clamped(v, 0, UINT16_MAX, saturate))
DEFINE_LOOP(i16_of_integer, int64_t, uint16_t, clamped(v, INT16_MIN, INT16_MAX, saturate))
DEFINE_LOOP(u32_of_integer, int64_t, uint32_t, clamped(v, 0, UINT32_MAX, saturate))
DEFINE_LOOP(i32_of_integer, int64_t, uint32_t, clamped(v, INT32_MIN, INT32_MAX, saturate))
DEFINE_LOOP(u64_of_integer, int64_t, uint64_t, clamped(v, 0, INT64_MAX, saturate))
DEFINE_LOOP(i64_of_integer, int64_t, uint64_t, v)

static convert_kernel *const from_integer[CAIRN_F8_E5M2] = {
    bool_of_integer, u8_of_integer, i8_of_integer, u16_of_integer, i16_of_integer, u32_of_integer, i32_of_integer,
    u64_of_integer, i64_of_integer,
};

// The one rounding that round-to-odd does not serve: to the full precision of a double.
DEFINE_LOOP(f64_of_u64, uint64_t, double, v)
DEFINE_LOOP(f64_of_i64, int64_t, double, v)

static const uint8_t width_of[CAIRN_SCALAR_COUNT] = {1, 1, 1, 2, 2, 4, 4, 8, 8, 1, 1, 1, 1, 1, 2, 2, 4, 8};

void cairn_convert_portable(int source_type, const uint8_t *source, int destination_type, uint8_t *destination,
                            size_t count, int saturate) {
    if (destination_type == CAIRN_F64 && (source_type == CAIRN_U64 || source_type == CAIRN_I64)) {
        (source_type == CAIRN_U64 ? f64_of_u64 : f64_of_i64)(source, destination, count, saturate);
        return;
    }
    const int integers = source_type < CAIRN_F8_E5M2 && destination_type < CAIRN_F8_E5M2;
    convert_kernel *first = integers ? to_integer[source_type] : to_real[source_type];
    convert_kernel *second = integers ? from_integer[destination_type] : from_real[destination_type];
    enum { block_count = 512 };
    uint64_t block[block_count];
    while (count > 0) {
        const size_t n = count < block_count ? count : block_count;
        first(source, (uint8_t *)block, n, saturate);
        second((const uint8_t *)block, destination, n, saturate);
        source += n * width_of[source_type];
        destination += n * width_of[destination_type];
        count -= n;
    }
}
