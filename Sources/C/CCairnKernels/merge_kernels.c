#include "cairn_merge.h"

#include <string.h>

#include "cairn_convert.h"
#include "cairn_level.h"
#include "float_formats.h"

// Every level must round alike: products and sums are fused where that is said, and nowhere else.
#pragma STDC FP_CONTRACT OFF

enum { merge_block = 1024, merge_task_block = 256 };

static const uint8_t merge_width_of[CAIRN_SCALAR_COUNT] = {1, 1, 1, 2, 2, 4, 4, 8, 8, 1, 1, 1, 1, 1, 2, 2, 4, 8};

INLINE size_t merge_least(size_t a, size_t b) { return a < b ? a : b; }

// Where an index of the tensor is in a block that begins at `first`, no further than its ends.
INLINE uint32_t merge_cut(uint64_t cut, uint64_t first, size_t count) {
    if (cut <= first) return 0;
    return cut - first < count ? (uint32_t)(cut - first) : (uint32_t)count;
}

// Philox4x32 with 10 rounds (Salmon, Moraes, Dror and Shaw, SC 2011), many blocks side by side.
INLINE void merge_philox(uint64_t key, uint64_t stream, uint64_t first, uint32_t *restrict numbers, size_t count) {
    enum { width = 32 };
    uint64_t counter = first / 4;
    size_t skipped = first % 4, written = 0;
    while (written < count) {
        uint32_t x0[width], x1[width], x2[width], x3[width];
        for (uint32_t i = 0; i < width; i++) {
            x0[i] = (uint32_t)(counter + i);
            x1[i] = (uint32_t)((counter + i) >> 32);
            x2[i] = (uint32_t)stream;
            x3[i] = (uint32_t)(stream >> 32);
        }
        uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
        for (int round = 0; round < 10; round++) {
            for (int i = 0; i < width; i++) {
                const uint64_t a = (uint64_t)x0[i] * 0xD2511F53u, b = (uint64_t)x2[i] * 0xCD9E8D57u;
                const uint32_t y0 = (uint32_t)(b >> 32) ^ x1[i] ^ k0, y2 = (uint32_t)(a >> 32) ^ x3[i] ^ k1;
                x0[i] = y0;
                x1[i] = (uint32_t)b;
                x2[i] = y2;
                x3[i] = (uint32_t)a;
            }
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
        }
        uint32_t block[4 * width];
        for (int i = 0; i < width; i++) {
            block[4 * i] = x0[i];
            block[4 * i + 1] = x1[i];
            block[4 * i + 2] = x2[i];
            block[4 * i + 3] = x3[i];
        }
        const size_t n = merge_least(4 * width - skipped, count - written);
        memcpy(numbers + written, block + skipped, 4 * n);
        written += n;
        skipped = 0;
        counter += width;
    }
}

// Vectors of 16 floats, whatever registers hold them, so that every level adds up in the same order.
typedef float lanes16 __attribute__((vector_size(64), aligned(4)));
enum { product_tile = 4, product_stretch = 4096 };

// Scalar products of `rows` times `columns` rows, at most a tile, over one stretch.
INLINE void product_tile_sums(const float *const *a, const float *const *b, size_t length, int rows, int columns,
                              double sums[product_tile][product_tile]) {
    lanes16 total[product_tile][product_tile] = {0};
    size_t k = 0;
    for (; k + 16 <= length; k += 16) {
        lanes16 x[product_tile], y[product_tile];
        for (int i = 0; i < product_tile; i++) x[i] = *(const lanes16 *)(a[i < rows ? i : 0] + k);
        for (int j = 0; j < product_tile; j++) y[j] = *(const lanes16 *)(b[j < columns ? j : 0] + k);
        for (int i = 0; i < product_tile; i++)
            for (int j = 0; j < product_tile; j++) total[i][j] = __builtin_elementwise_fma(x[i], y[j], total[i][j]);
    }
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) {
            double sum = 0;
            for (int lane = 0; lane < 16; lane++) sum += (double)total[i][j][lane];
            for (size_t rest = k; rest < length; rest++) sum += (double)a[i][rest] * (double)b[j][rest];
            sums[i][j] = sum;
        }
}

INLINE void merge_products(const float *a, size_t a_rows, const float *b, size_t b_rows, size_t length,
                           double *products) {
    for (size_t begin = 0; begin < length; begin += product_stretch) {
        const size_t n = merge_least(product_stretch, length - begin);
        for (size_t i = 0; i < a_rows; i += product_tile)
            for (size_t j = 0; j < b_rows; j += product_tile) {
                const int rows = (int)merge_least(product_tile, a_rows - i);
                const int columns = (int)merge_least(product_tile, b_rows - j);
                const float *x[product_tile] = {0}, *y[product_tile] = {0};
                for (int r = 0; r < rows; r++) x[r] = a + (i + (size_t)r) * length + begin;
                for (int c = 0; c < columns; c++) y[c] = b + (j + (size_t)c) * length + begin;
                double sums[product_tile][product_tile];
                product_tile_sums(x, y, n, rows, columns, sums);
                for (int r = 0; r < rows; r++)
                    for (int c = 0; c < columns; c++) products[(i + (size_t)r) * b_rows + j + (size_t)c] += sums[r][c];
            }
    }
}

// Every rounding error of products and sums is computed as well (Ogita, Rump and Oishi, 2005), and added up by itself.
INLINE void merge_add_exactly(double x, double *sum, double *rest) {
    const double total = *sum + x, back = total - *sum;
    *rest += (*sum - (total - back)) + (x - back);
    *sum = total;
}

INLINE void merge_dot_compensated(const double *restrict a, const double *restrict b, size_t count, double sums[2]) {
    enum { lanes = 8 };
    double sum[lanes] = {0}, rest[lanes] = {0};
    for (size_t i = 0; i < count; i += lanes) {
        const size_t n = merge_least(lanes, count - i);
        for (size_t k = 0; k < n; k++) {
            const double product = a[i + k] * b[i + k];
            rest[k] += __builtin_fma(a[i + k], b[i + k], -product);
            merge_add_exactly(product, &sum[k], &rest[k]);
        }
    }
    double total = 0, left = 0;
    for (int k = 0; k < lanes; k++) {
        merge_add_exactly(sum[k], &total, &left);
        left += rest[k];
    }
    sums[0] = total;
    sums[1] = left;
}

#define REAL float
#define REAL_TYPE CAIRN_F32
#define FMA(a, b, c) __builtin_fmaf(a, b, c)
#define NAME(x) single_##x
#include "merge_bodies.h"
#undef REAL
#undef REAL_TYPE
#undef FMA
#undef NAME
#define REAL double
#define REAL_TYPE CAIRN_F64
#define FMA(a, b, c) __builtin_fma(a, b, c)
#define NAME(x) double_##x
#include "merge_bodies.h"

typedef struct cairn_elements elements;

// What a level has.
struct merge_kernels {
    void (*add)(int, int, elements, double, int, void *, size_t);
    void (*divide)(int, double, void *, size_t);
    void (*difference)(int, int, elements, elements, void *, size_t);
    double (*dot)(int, const void *, const void *, size_t);
    void (*dot_compensated)(const double *, const double *, size_t, double *);
    void (*tasks)(int, int, elements, const struct cairn_task *, int, struct cairn_task_rule, uint64_t, void *, size_t);
    void (*norms)(int, int, elements, elements, const struct cairn_sparsity *, uint64_t, size_t, double *, double *);
    void (*count_upper)(int, int, elements, elements, size_t, uint64_t *);
    void (*count_lower)(int, int, elements, elements, uint32_t, size_t, uint64_t *);
    size_t (*count_equal)(int, int, elements, elements, uint32_t, size_t, size_t, size_t *);
    void (*products)(const float *, size_t, const float *, size_t, size_t, double *);
    void (*philox)(uint64_t, uint64_t, uint64_t, uint32_t *, size_t);
};

#define EITHER(call, ...) (precise ? double_##call(__VA_ARGS__) : single_##call(__VA_ARGS__))

#define COMPILE(suffix, attributes)                                                                                    \
    attributes static void add_##suffix(int level, int precise, elements x, double weight, int begins, void *sums,     \
                                        size_t n) {                                                                    \
        EITHER(add, level, x, weight, begins, sums, n);                                                                \
    }                                                                                                                  \
    attributes static void divide_##suffix(int precise, double divisor, void *sums, size_t n) {                        \
        EITHER(divide, divisor, sums, n);                                                                              \
    }                                                                                                                  \
    attributes static void difference_##suffix(int level, int precise, elements x, elements base, void *values,        \
                                               size_t n) {                                                             \
        EITHER(difference, level, x, base, values, n);                                                                 \
    }                                                                                                                  \
    attributes static double dot_##suffix(int precise, const void *a, const void *b, size_t n) {                       \
        return EITHER(dot, a, b, n);                                                                                   \
    }                                                                                                                  \
    attributes static void dot_compensated_##suffix(const double *a, const double *b, size_t n, double *sums) {        \
        merge_dot_compensated(a, b, n, sums);                                                                          \
    }                                                                                                                  \
    attributes static void tasks_##suffix(int level, int precise, elements base, const struct cairn_task *tasks,       \
                                          int count, struct cairn_task_rule rule, uint64_t first, void *result,        \
                                          size_t n) {                                                                  \
        EITHER(combine, level, base, tasks, count, rule, first, result, n);                                            \
    }                                                                                                                  \
    attributes static void norms_##suffix(int level, int precise, elements x, elements base,                           \
                                          const struct cairn_sparsity *s, uint64_t first, size_t n, double *before,    \
                                          double *after) {                                                             \
        EITHER(norms, level, x, base, s, first, n, before, after);                                                     \
    }                                                                                                                  \
    attributes static void count_upper_##suffix(int level, int precise, elements x, elements base, size_t n,           \
                                                uint64_t *counters) {                                                  \
        EITHER(count_upper, level, x, base, n, counters);                                                              \
    }                                                                                                                  \
    attributes static void count_lower_##suffix(int level, int precise, elements x, elements base, uint32_t upper,     \
                                                size_t n, uint64_t *counters) {                                        \
        EITHER(count_lower, level, x, base, upper, n, counters);                                                       \
    }                                                                                                                  \
    attributes static size_t count_equal_##suffix(int level, int precise, elements x, elements base,                   \
                                                  uint32_t magnitude, size_t limit, size_t n, size_t *position) {      \
        return EITHER(count_equal, level, x, base, magnitude, limit, n, position);                                     \
    }                                                                                                                  \
    attributes static void products_##suffix(const float *a, size_t a_rows, const float *b, size_t b_rows,             \
                                             size_t length, double *products) {                                        \
        merge_products(a, a_rows, b, b_rows, length, products);                                                        \
    }                                                                                                                  \
    attributes static void philox_##suffix(uint64_t key, uint64_t stream, uint64_t first, uint32_t *numbers,           \
                                           size_t n) {                                                                 \
        merge_philox(key, stream, first, numbers, n);                                                                  \
    }                                                                                                                  \
    static const struct merge_kernels kernels_##suffix = {                                                             \
        add_##suffix,   divide_##suffix,      difference_##suffix,  dot_##suffix,         dot_compensated_##suffix,    \
        tasks_##suffix,                                                                                                \
        norms_##suffix, count_upper_##suffix, count_lower_##suffix, count_equal_##suffix, products_##suffix, philox_##suffix, \
    };

COMPILE(portable, )
#if defined(__x86_64__)
COMPILE(avx2, __attribute__((target("avx2,f16c,fma"))))
COMPILE(avx512, __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,f16c,fma"))))
#endif

static const struct merge_kernels *kernels(int level) {
#if defined(__x86_64__)
    const int highest = cairn_instruction_level();
    if (level > highest) level = highest;
    if (level >= 2 && __builtin_cpu_supports("fma")) return level >= 3 ? &kernels_avx512 : &kernels_avx2;
#endif
    (void)level;
    return &kernels_portable;
}

static int is_type(elements x) { return (unsigned)x.type < CAIRN_SCALAR_COUNT; }

void cairn_merge_add(int level, int precise, elements x, double weight, int begins, void *sums, size_t count) {
    if (is_type(x)) kernels(level)->add(level, precise, x, weight, begins, sums, count);
}

void cairn_merge_divide(int level, int precise, double divisor, void *sums, size_t count) {
    kernels(level)->divide(precise, divisor, sums, count);
}

void cairn_merge_difference(int level, int precise, elements x, elements base, void *values, size_t count) {
    if (is_type(x) && is_type(base)) kernels(level)->difference(level, precise, x, base, values, count);
}

double cairn_merge_dot(int level, int precise, const void *a, const void *b, size_t count) {
    return kernels(level)->dot(precise, a, b, count);
}

void cairn_merge_dot_compensated(int level, const double *a, const double *b, size_t count, double sums[2]) {
    kernels(level)->dot_compensated(a, b, count, sums);
}

void cairn_merge_tasks(int level, int precise, elements base, const struct cairn_task *tasks, int task_count,
                       struct cairn_task_rule rule, uint64_t first, void *result, size_t count) {
    if (!is_type(base) || task_count > CAIRN_MOST_TASKS) return;
    for (int i = 0; i < task_count; i++)
        if (!is_type(tasks[i].x)) return;
    kernels(level)->tasks(level, precise, base, tasks, task_count, rule, first, result, count);
}

void cairn_merge_norms(int level, int precise, elements x, elements base, const struct cairn_sparsity *sparsity,
                       uint64_t first, size_t count, double *before, double *after) {
    if (is_type(x) && is_type(base))
        kernels(level)->norms(level, precise, x, base, sparsity, first, count, before, after);
}

void cairn_merge_count_upper(int level, int precise, elements x, elements base, size_t count, uint64_t *counters) {
    if (is_type(x) && is_type(base)) kernels(level)->count_upper(level, precise, x, base, count, counters);
}

void cairn_merge_count_lower(int level, int precise, elements x, elements base, uint32_t upper, size_t count,
                             uint64_t *counters) {
    if (is_type(x) && is_type(base)) kernels(level)->count_lower(level, precise, x, base, upper, count, counters);
}

size_t cairn_merge_count_equal(int level, int precise, elements x, elements base, uint32_t magnitude, size_t limit,
                               size_t count, size_t *position) {
    if (!is_type(x) || !is_type(base)) return 0;
    return kernels(level)->count_equal(level, precise, x, base, magnitude, limit, count, position);
}

void cairn_merge_products(int level, const float *a, size_t a_rows, const float *b, size_t b_rows, size_t length,
                          double *products) {
    kernels(level)->products(a, a_rows, b, b_rows, length, products);
}

void cairn_philox_fill(int level, uint64_t key, uint64_t stream, uint64_t first, uint32_t *numbers, size_t count) {
    kernels(level)->philox(key, stream, first, numbers, count);
}
