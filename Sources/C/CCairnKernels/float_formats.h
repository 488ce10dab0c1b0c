// The narrow floating-point formats, one element at a time, in integer arithmetic.
#ifndef CAIRN_FLOAT_FORMATS_H
#define CAIRN_FLOAT_FORMATS_H

#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline, unused))

// A format of one sign bit, `exponent_bits` with a bias, and `mantissa_bits`.
struct format {
    int exponent_bits, mantissa_bits, bias;
    uint32_t largest;   // the code of the largest finite value
    uint32_t overflow;  // the code of infinity, or of NaN in a format without infinities
    uint32_t nan;       // the code of NaN
    int payload;        // whether a NaN keeps the upper bits of its payload
    int unsigned_zero;  // "FNUZ": one zero and one NaN, whose codes take no sign
};

static const struct format format_f16 = {5, 10, 15, 0x7BFF, 0x7C00, 0x7E00, 1, 0};
static const struct format format_bf16 = {8, 7, 127, 0x7F7F, 0x7F80, 0x7FC0, 1, 0};
static const struct format format_e5m2 = {5, 2, 15, 0x7B, 0x7C, 0x7F, 0, 0};
static const struct format format_e4m3 = {4, 3, 7, 0x7E, 0x7F, 0x7F, 0, 0};
static const struct format format_e5m2fnuz = {5, 2, 16, 0x7F, 0x80, 0x80, 0, 1};
static const struct format format_e4m3fnuz = {4, 3, 8, 0x7F, 0x80, 0x80, 0, 1};

INLINE uint32_t bits_of_float(float v) {
    uint32_t bits;
    memcpy(&bits, &v, 4);
    return bits;
}

INLINE float float_of_bits(uint32_t bits) {
    float v;
    memcpy(&v, &bits, 4);
    return v;
}

INLINE uint64_t bits_of_double(double v) {
    uint64_t bits;
    memcpy(&bits, &v, 8);
    return bits;
}

INLINE double double_of_bits(uint64_t bits) {
    double v;
    memcpy(&v, &bits, 8);
    return v;
}

// The value of a code; every one is a value of single precision. NaN comes out quiet.
INLINE float decode_float(uint32_t code, struct format f) {
    const int width = 1 + f.exponent_bits + f.mantissa_bits;
    const uint32_t sign = code >> (width - 1) << 31;
    const uint32_t magnitude = code & ((1u << (width - 1)) - 1);
    if (f.unsigned_zero && code == f.nan) return float_of_bits(0x7FC00000u);
    if (!f.unsigned_zero && magnitude > f.largest) {
        if (magnitude == f.overflow && f.overflow != f.nan) return float_of_bits(sign | 0x7F800000u);
        return float_of_bits(sign | 0x7FC00000u | (f.payload ? magnitude << (23 - f.mantissa_bits) & 0x3FFFFFu : 0));
    }
    if (f.bias == 127) return float_of_bits(sign | magnitude << (23 - f.mantissa_bits));
    const uint32_t mantissa = magnitude & ((1u << f.mantissa_bits) - 1), exponent = magnitude >> f.mantissa_bits;
    if (exponent == 0) {
        // The mantissa counts units of 2^(1 - bias - mantissa_bits): an exact product.
        const float unit = float_of_bits((uint32_t)(128 - f.bias - f.mantissa_bits) << 23);
        return float_of_bits(sign | bits_of_float((float)mantissa * unit));
    }
    return float_of_bits(sign | (exponent + 127 - (uint32_t)f.bias) << 23 | mantissa << (23 - f.mantissa_bits));
}

// The code nearest to a value, ties to even, rounded once.
INLINE uint32_t encode_double(double value, struct format f, int saturate) {
    const int width = 1 + f.exponent_bits + f.mantissa_bits;
    const uint64_t bits = bits_of_double(value), magnitude = bits & 0x7FFFFFFFFFFFFFFFull;
    const uint32_t sign = (uint32_t)(bits >> 63) << (width - 1);
    const uint64_t infinity = 0x7FFull << 52;
    if (magnitude > infinity) {
        if (f.unsigned_zero) return f.nan;
        const uint32_t kept = (uint32_t)(magnitude >> (52 - f.mantissa_bits)) & ((1u << (f.mantissa_bits - 1)) - 1);
        return sign | f.nan | (f.payload ? kept : 0);
    }
    const int exponent = (int)(magnitude >> 52) - 1023, smallest = 1 - f.bias;
    const int below = exponent < smallest ? smallest - exponent : 0;
    const int shift = 52 - f.mantissa_bits + below;
    if (shift > 53) return f.unsigned_zero ? 0 : sign;  // less than half of the smallest value
    const uint64_t significand = (magnitude & ((1ull << 52) - 1)) | 1ull << 52;
    const uint64_t rest = significand & ((1ull << shift) - 1), half = 1ull << (shift - 1);
    uint64_t code = significand >> shift;
    code += rest > half || (rest == half && (code & 1));
    // The leading bit, and a carry out of the mantissa, add one to the exponent field.
    if (below == 0) code += (uint64_t)(exponent - smallest) << f.mantissa_bits;
    if (code > f.largest) {
        if (saturate) return sign | f.largest;
        return f.unsigned_zero ? f.overflow : sign | f.overflow;
    }
    if (f.unsigned_zero && code == 0) return 0;
    return sign | (uint32_t)code;
}

// The same from single precision without a branch, for compilers to vectorise; for the 8-bit formats and BF16.
INLINE uint32_t encode_float(float value, struct format f, int saturate) {
    const uint32_t bits = bits_of_float(value), magnitude = bits & 0x7FFFFFFFu;
    const int width = 1 + f.exponent_bits + f.mantissa_bits, dropped = 23 - f.mantissa_bits;
    const uint32_t sign = bits >> (32 - width) & 1u << (width - 1);
    const uint32_t largest = f.largest, overflow = saturate ? f.largest : f.overflow;
    uint32_t code = magnitude + ((uint32_t)(f.bias - 127) << 23) + ((1u << (dropped - 1)) - 1);
    code = (code + (magnitude >> dropped & 1)) >> dropped;
    if (f.bias != 127) {
        // Adding a number whose last place is the smallest value makes the processor round to it.
        const uint32_t magic = (uint32_t)(1 - f.bias - f.mantissa_bits + 23 + 127) << 23;
        const uint32_t small = bits_of_float(float_of_bits(magnitude) + float_of_bits(magic)) - magic;
        code = magnitude < (uint32_t)(128 - f.bias) << 23 ? small : code;
    }
    code = code > largest ? overflow : code;
    const uint32_t kept = f.payload ? magnitude >> dropped & ((1u << (f.mantissa_bits - 1)) - 1) : 0;
    code = magnitude > 0x7F800000u ? f.nan | kept : code;
    if (f.unsigned_zero) return (code & 0x7F) == 0 ? code : code | sign;
    return code | sign;
}

// E8M0: a power of two from 2^-127 to 2^127.
INLINE float decode_e8m0(uint32_t code) {
    if (code == 0xFF) return float_of_bits(0x7FC00000u);
    return float_of_bits(code == 0 ? 0x00400000u : code << 23);
}

// The nearest power of two of the magnitude, the larger of two equally near.
INLINE uint32_t encode_e8m0(double value, int saturate) {
    const uint64_t magnitude = bits_of_double(value) & 0x7FFFFFFFFFFFFFFFull;
    if (magnitude > 0x7FFull << 52) return 0xFF;
    const int exponent = (int)((magnitude + (1ull << 51)) >> 52) - 1023;
    if (exponent > 127) return saturate ? 0xFE : 0xFF;
    return exponent < -127 ? 0 : (uint32_t)(exponent + 127);
}

#endif
