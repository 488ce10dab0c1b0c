#include "cairn_planes.h"

#include <string.h>

#include "cairn_level.h"

#define INLINE static inline __attribute__((always_inline, unused))

// MARK: Portable

// Elements `first` to `elements`, one byte at a time.
INLINE void split_rest(const uint8_t *s, uint8_t *d, size_t first, size_t elements, size_t width) {
    for (size_t i = first; i < elements; i++)
        for (size_t plane = 0; plane < width; plane++) d[plane * elements + i] = s[i * width + plane];
}

INLINE void join_rest(const uint8_t *s, uint8_t *d, size_t first, size_t elements, size_t width) {
    for (size_t i = first; i < elements; i++)
        for (size_t plane = 0; plane < width; plane++) d[i * width + plane] = s[plane * elements + i];
}

// MARK: Vectors
//
// A stage takes the even and the odd bytes of a pair of vectors apart. Vectors that hold elements of width w hold
// elements of width w / 2 after it, so log2(width) stages separate the planes. The compiler picks the instructions:
// pack and permute on x86, uzp and zip on arm64.

typedef uint8_t bytes16 __attribute__((vector_size(16)));
typedef uint8_t bytes32 __attribute__((vector_size(32)));

#define EVEN16 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define ODD16 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#define EVEN32 EVEN16, 32, 34, 36, 38, 40, 42, 44, 46, 48, 50, 52, 54, 56, 58, 60, 62
#define ODD32 ODD16, 33, 35, 37, 39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63
#define LOW16 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH16 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define LOW32 0, 32, 1, 33, 2, 34, 3, 35, 4, 36, 5, 37, 6, 38, 7, 39, \
              8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47
#define HIGH32 16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22, 54, 23, 55, \
               24, 56, 25, 57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63

// The plane that vector `k` holds after the stages: the first puts odd bytes into the upper half of the vectors, the
// second splits each half, so the index has the bits of the byte number in reverse.
INLINE size_t plane_of(size_t k, size_t width) {
    if (width == 2) return k;
    if (width == 4) return (k & 1) << 1 | k >> 1;
    return (k & 1) << 2 | (k & 2) | k >> 2;
}

#define UNROLL _Pragma("clang loop unroll(full)")

// The stages and loops for vectors of `size` bytes. A stage sees `groups` runs of vectors, each of which holds the same
// bytes of all elements, and leaves twice as many. Unrolled by request: the vectors must stay in registers.
#define DEFINE_VECTOR_LOOPS(size)                                                                                      \
    INLINE void split_stage_##size(bytes##size *v, size_t width, size_t groups) {                                      \
        bytes##size next[8];                                                                                           \
        const size_t half = width / groups / 2;                                                                        \
        UNROLL for (size_t k = 0; k < width / 2; k++) {                                                                \
            size_t group = k / half * 2 * half;                                                                        \
            next[group + k % half] = __builtin_shufflevector(v[2 * k], v[2 * k + 1], EVEN##size);                      \
            next[group + half + k % half] = __builtin_shufflevector(v[2 * k], v[2 * k + 1], ODD##size);                \
        }                                                                                                              \
        UNROLL for (size_t k = 0; k < width; k++) v[k] = next[k];                                                      \
    }                                                                                                                  \
                                                                                                                       \
    INLINE void join_stage_##size(bytes##size *v, size_t width, size_t groups) {                                       \
        bytes##size next[8];                                                                                           \
        const size_t half = width / groups / 2;                                                                        \
        UNROLL for (size_t k = 0; k < width / 2; k++) {                                                                \
            size_t even = k / half * 2 * half + k % half;                                                              \
            next[2 * k] = __builtin_shufflevector(v[even], v[even + half], LOW##size);                                 \
            next[2 * k + 1] = __builtin_shufflevector(v[even], v[even + half], HIGH##size);                            \
        }                                                                                                              \
        UNROLL for (size_t k = 0; k < width; k++) v[k] = next[k];                                                      \
    }                                                                                                                  \
                                                                                                                       \
    INLINE size_t split_##size(const uint8_t *restrict s, uint8_t *restrict d, size_t elements, size_t width) {        \
        size_t i = 0;                                                                                                  \
        for (; i + size <= elements; i += size) {                                                                      \
            bytes##size v[8];                                                                                          \
            UNROLL for (size_t k = 0; k < width; k++) memcpy(&v[k], s + i * width + k * size, size);                   \
            split_stage_##size(v, width, 1);                                                                           \
            if (width >= 4) split_stage_##size(v, width, 2);                                                           \
            if (width >= 8) split_stage_##size(v, width, 4);                                                           \
            UNROLL for (size_t k = 0; k < width; k++) memcpy(d + plane_of(k, width) * elements + i, &v[k], size);      \
        }                                                                                                              \
        return i;                                                                                                      \
    }                                                                                                                  \
                                                                                                                       \
    INLINE size_t join_##size(const uint8_t *restrict s, uint8_t *restrict d, size_t elements, size_t width) {         \
        size_t i = 0;                                                                                                  \
        for (; i + size <= elements; i += size) {                                                                      \
            bytes##size v[8];                                                                                          \
            UNROLL for (size_t k = 0; k < width; k++) memcpy(&v[k], s + plane_of(k, width) * elements + i, size);      \
            if (width >= 8) join_stage_##size(v, width, 4);                                                            \
            if (width >= 4) join_stage_##size(v, width, 2);                                                            \
            join_stage_##size(v, width, 1);                                                                            \
            UNROLL for (size_t k = 0; k < width; k++) memcpy(d + i * width + k * size, &v[k], size);                   \
        }                                                                                                              \
        return i;                                                                                                      \
    }

DEFINE_VECTOR_LOOPS(16)
DEFINE_VECTOR_LOOPS(32)

// MARK: Dispatch

// One function for each loop and width, so that the stages unroll and the vectors stay in registers.
#define DEFINE_WIDTHS(name, attributes, loop, rest)                                                                    \
    attributes static void name(const uint8_t *s, uint8_t *d, size_t elements, int width) {                            \
        if (width == 2) rest(s, d, loop(s, d, elements, 2), elements, 2);                                              \
        else if (width == 4) rest(s, d, loop(s, d, elements, 4), elements, 4);                                         \
        else rest(s, d, loop(s, d, elements, 8), elements, 8);                                                         \
    }

#define NO_VECTORS(s, d, elements, width) 0

DEFINE_WIDTHS(split_portable, , NO_VECTORS, split_rest)
DEFINE_WIDTHS(join_portable, , NO_VECTORS, join_rest)
DEFINE_WIDTHS(split_narrow, , split_16, split_rest)
DEFINE_WIDTHS(join_narrow, , join_16, join_rest)
#if defined(__x86_64__)
DEFINE_WIDTHS(split_wide, __attribute__((target("avx2"))), split_32, split_rest)
DEFINE_WIDTHS(join_wide, __attribute__((target("avx2"))), join_32, join_rest)
#else
#define split_wide split_narrow
#define join_wide join_narrow
#endif

void cairn_planes_split(int level, const void *source, void *destination, size_t count, int width) {
    if (count == 0 || (width != 2 && width != 4 && width != 8)) return;
    int highest = cairn_instruction_level();
    if (level > highest) level = highest;
    size_t elements = count / (size_t)width, whole = elements * (size_t)width;
    (level >= 2 ? split_wide : level == 1 ? split_narrow : split_portable)(source, destination, elements, width);
    memcpy((uint8_t *)destination + whole, (const uint8_t *)source + whole, count - whole);
}

void cairn_planes_join(int level, const void *source, void *destination, size_t count, int width) {
    if (count == 0 || (width != 2 && width != 4 && width != 8)) return;
    int highest = cairn_instruction_level();
    if (level > highest) level = highest;
    size_t elements = count / (size_t)width, whole = elements * (size_t)width;
    (level >= 2 ? join_wide : level == 1 ? join_narrow : join_portable)(source, destination, elements, width);
    memcpy((uint8_t *)destination + whole, (const uint8_t *)source + whole, count - whole);
}
