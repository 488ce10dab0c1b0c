#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

// One body, compiled for each of three generations of instructions; the loader picks.
#if defined(__linux__) && defined(__x86_64__)
#define DISPATCHED __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define DISPATCHED
#endif
#define INLINE static inline __attribute__((always_inline))

// Pointers that may be equal but never overlap otherwise: each index is read before it is written.
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")

// Sixteen lanes whatever the hardware, so that every machine adds in the same order.
typedef float lanes __attribute__((vector_size(64)));

// A macro: returning such a vector is a different calling convention on each processor.
typedef float lanes_in_memory __attribute__((vector_size(64), aligned(4), may_alias));
#define load_lanes(p) (*(const lanes_in_memory *)(p))

INLINE float sum_lanes(const lanes *v) {
    float x[16];
    memcpy(x, v, sizeof x);
    for (int width = 8; width > 0; width /= 2)
        for (int i = 0; i < width; i++) x[i] += x[i + width];
    return x[0];
}

INLINE float bits_to_float(int32_t bits) {
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

INLINE int32_t float_to_bits(float f) {
    int32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

// Range reduction by ln 2 in two parts, then the degree-6 polynomial of Cephes' expf.
INLINE float fast_exp(float x) {
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
    float shifted = x * 1.44269504088896341f + magic;
    float n = shifted - magic;
    float r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    int32_t exponent = (int32_t)((uint32_t)float_to_bits(shifted) << 23);
    return bits_to_float(float_to_bits(p) + exponent);
}

INLINE float sigmoid(float x) { return 1.0f / (1.0f + fast_exp(-x)); }
