#include "cairn_planes.h"

#include <string.h>

#include "cairn_level.h"

#define INLINE static inline __attribute__((always_inline, unused))

// MARK: Portable

// One element as a number; rotated left by one bit where that is asked for, whatever then stands above its width.
INLINE uint64_t element(const uint8_t *s, size_t i, size_t width, int rotates) {
    uint64_t x = 0;
    for (size_t k = 0; k < width; k++) x |= (uint64_t)s[i * width + k] << (8 * k);
    return rotates ? x << 1 | x >> (8 * width - 1) : x;
}

// Elements `first` to `elements`, one byte at a time.
INLINE void split_rest(const uint8_t *s, uint8_t *const *planes, size_t first, size_t elements, size_t width, int rotates) {
    for (size_t i = first; i < elements; i++) {
        uint64_t x = element(s, i, width, rotates);
        for (size_t k = 0; k < width; k++) planes[k][i] = (uint8_t)(x >> (8 * k));
    }
}

INLINE void join_rest(const uint8_t *const *planes, uint8_t *d, size_t first, size_t elements, size_t width, int rotates) {
    for (size_t i = first; i < elements; i++) {
        uint64_t x = 0;
        for (size_t k = 0; k < width; k++) x |= (uint64_t)planes[k][i] << (8 * k);
        if (rotates) x = x >> 1 | x << (8 * width - 1);
        for (size_t k = 0; k < width; k++) d[i * width + k] = (uint8_t)(x >> (8 * k));
    }
}

// MARK: Vectors
//
// A stage takes the even and the odd bytes of a pair of vectors apart. Vectors that hold elements of width w hold
// elements of width w / 2 after it, so log2(width) stages separate the planes. The compiler picks the instructions:
// pack and permute on x86, uzp and zip on arm64.

typedef uint8_t bytes16 __attribute__((vector_size(16)));
typedef uint8_t bytes32 __attribute__((vector_size(32)));
typedef uint16_t elements2_16 __attribute__((vector_size(16)));
typedef uint16_t elements2_32 __attribute__((vector_size(32)));
typedef uint32_t elements4_16 __attribute__((vector_size(16)));
typedef uint32_t elements4_32 __attribute__((vector_size(32)));
typedef uint64_t elements8_16 __attribute__((vector_size(16)));
typedef uint64_t elements8_32 __attribute__((vector_size(32)));

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
    INLINE void rotate_##size(bytes##size *v, size_t width, int left) {                                                \
        elements2_##size two = (elements2_##size)*v;                                                                   \
        elements4_##size four = (elements4_##size)*v;                                                                  \
        elements8_##size eight = (elements8_##size)*v;                                                                 \
        if (width == 2) *v = (bytes##size)(left ? two << 1 | two >> 15 : two >> 1 | two << 15);                        \
        else if (width == 4) *v = (bytes##size)(left ? four << 1 | four >> 31 : four >> 1 | four << 31);               \
        else *v = (bytes##size)(left ? eight << 1 | eight >> 63 : eight >> 1 | eight << 63);                           \
    }                                                                                                                  \
                                                                                                                       \
    INLINE size_t split_##size(                                                                                        \
        const uint8_t *s, uint8_t *const *planes, size_t elements, size_t width, int rotates) {                        \
        size_t i = 0;                                                                                                  \
        for (; i + size <= elements; i += size) {                                                                      \
            bytes##size v[8];                                                                                          \
            UNROLL for (size_t k = 0; k < width; k++) {                                                                \
                memcpy(&v[k], s + i * width + k * size, size);                                                         \
                if (rotates) rotate_##size(&v[k], width, 1);                                                           \
            }                                                                                                          \
            split_stage_##size(v, width, 1);                                                                           \
            if (width >= 4) split_stage_##size(v, width, 2);                                                           \
            if (width >= 8) split_stage_##size(v, width, 4);                                                           \
            UNROLL for (size_t k = 0; k < width; k++) memcpy(planes[plane_of(k, width)] + i, &v[k], size);             \
        }                                                                                                              \
        return i;                                                                                                      \
    }                                                                                                                  \
                                                                                                                       \
    INLINE size_t join_##size(                                                                                         \
        const uint8_t *const *planes, uint8_t *d, size_t elements, size_t width, int rotates) {                        \
        size_t i = 0;                                                                                                  \
        for (; i + size <= elements; i += size) {                                                                      \
            bytes##size v[8];                                                                                          \
            UNROLL for (size_t k = 0; k < width; k++) memcpy(&v[k], planes[plane_of(k, width)] + i, size);             \
            if (width >= 8) join_stage_##size(v, width, 4);                                                            \
            if (width >= 4) join_stage_##size(v, width, 2);                                                            \
            join_stage_##size(v, width, 1);                                                                            \
            UNROLL for (size_t k = 0; k < width; k++) {                                                                \
                if (rotates) rotate_##size(&v[k], width, 0);                                                           \
                memcpy(d + i * width + k * size, &v[k], size);                                                         \
            }                                                                                                          \
        }                                                                                                              \
        return i;                                                                                                      \
    }

DEFINE_VECTOR_LOOPS(16)
DEFINE_VECTOR_LOOPS(32)

// MARK: Dispatch

// One function for each loop, width and rotation, so that the stages unroll and the vectors stay in registers.
#define RUN(loop, rest, from, to, elements, width, rotates)                                                            \
    rest(from, to, loop(from, to, elements, width, rotates), elements, width, rotates)

#define DEFINE_WIDTHS(name, attributes, source, target, loop, rest)                                                    \
    attributes static void name(source from, target to, size_t elements, int width, int rotates) {                     \
        if (rotates) {                                                                                                 \
            if (width == 2) RUN(loop, rest, from, to, elements, 2, 1);                                                 \
            else if (width == 4) RUN(loop, rest, from, to, elements, 4, 1);                                            \
            else RUN(loop, rest, from, to, elements, 8, 1);                                                            \
        } else {                                                                                                       \
            if (width == 2) RUN(loop, rest, from, to, elements, 2, 0);                                                 \
            else if (width == 4) RUN(loop, rest, from, to, elements, 4, 0);                                            \
            else RUN(loop, rest, from, to, elements, 8, 0);                                                            \
        }                                                                                                              \
    }

#define DEFINE_SPLIT(name, attributes, loop)                                                                           \
    DEFINE_WIDTHS(name, attributes, const uint8_t *, uint8_t *const *, loop, split_rest)
#define DEFINE_JOIN(name, attributes, loop)                                                                            \
    DEFINE_WIDTHS(name, attributes, const uint8_t *const *, uint8_t *, loop, join_rest)

#define NO_VECTORS(from, to, elements, width, rotates) 0

DEFINE_SPLIT(split_portable, , NO_VECTORS)
DEFINE_JOIN(join_portable, , NO_VECTORS)
DEFINE_SPLIT(split_narrow, , split_16)
DEFINE_JOIN(join_narrow, , join_16)
#if defined(__x86_64__)
DEFINE_SPLIT(split_wide, __attribute__((target("avx2"))), split_32)
DEFINE_JOIN(join_wide, __attribute__((target("avx2"))), join_32)
#else
#define split_wide split_narrow
#define join_wide join_narrow
#endif

static int is_width(int width) { return width == 2 || width == 4 || width == 8; }

void cairn_planes_split(
    int level, const void *source, uint8_t *const *planes, size_t elements, int width, int rotates) {
    if (elements == 0 || !is_width(width)) return;
    int highest = cairn_instruction_level();
    if (level > highest) level = highest;
    (level >= 2 ? split_wide : level == 1 ? split_narrow : split_portable)(source, planes, elements, width, rotates);
}

void cairn_planes_join(
    int level, const uint8_t *const *planes, void *destination, size_t elements, int width, int rotates) {
    if (elements == 0 || !is_width(width)) return;
    int highest = cairn_instruction_level();
    if (level > highest) level = highest;
    (level >= 2 ? join_wide : level == 1 ? join_narrow : join_portable)(planes, destination, elements, width, rotates);
}

// MARK: Sampling

enum { SAMPLED_RUNS = 8, SAMPLED_RUN_LENGTH = CAIRN_PLANES_SAMPLE / SAMPLED_RUNS };

INLINE void count_run(const uint8_t *s, size_t first, size_t end, size_t width, int rotates, uint32_t *counts) {
    for (size_t i = first; i < end; i++) {
        uint64_t x = element(s, i, width, rotates);
        for (size_t k = 0; k < width; k++) counts[k * 256 + (uint8_t)(x >> (8 * k))]++;
    }
}

size_t cairn_planes_sample(const void *source, size_t elements, int width, int rotates, uint32_t *counts) {
    if (width != 1 && !is_width(width)) return 0;
    memset(counts, 0, (size_t)width * 256 * sizeof *counts);
    size_t runs = elements <= CAIRN_PLANES_SAMPLE ? 1 : SAMPLED_RUNS;
    size_t length = runs == 1 ? elements : SAMPLED_RUN_LENGTH;
    for (size_t run = 0; run < runs; run++) {
        size_t first = elements / runs * run;
        if (width == 1) count_run(source, first, first + length, 1, 0, counts);
        else if (width == 2) count_run(source, first, first + length, 2, rotates, counts);
        else if (width == 4) count_run(source, first, first + length, 4, rotates, counts);
        else count_run(source, first, first + length, 8, rotates, counts);
    }
    return runs * length;
}
