// Weighted sums of tensors, and merges of task vectors: the differences of tensors from a common base.
//
// Tensors come as arrays of any type that cairn_convert.h names, at any alignment, and are converted a block at a time.
// `precise` computes in double precision instead of single. Every level gives the same bits: products are added by one
// rounding (fma), and sums over elements run in a fixed order.
#ifndef CAIRN_MERGE_H
#define CAIRN_MERGE_H

#include <stddef.h>
#include <stdint.h>

// Elements of one type of cairn_convert.h.
struct cairn_elements {
    const void *bytes;
    int type;
};

// sums[i] = weight * x[i] + sums[i], or the product alone where `begins`. `sums` holds floats, or doubles where `precise`.
void cairn_merge_add(int level, int precise, struct cairn_elements x, double weight, int begins, void *sums, size_t count);

// sums[i] /= divisor.
void cairn_merge_divide(int level, int precise, double divisor, void *sums, size_t count);

// values[i] = x[i] - base[i], or x[i] where `base` has no bytes, as floats, or doubles where `precise`.
void cairn_merge_difference(int level, int precise, struct cairn_elements x, struct cairn_elements base, void *values,
                            size_t count);

// The sum of a[i] * b[i], in double precision.
double cairn_merge_dot(int level, int precise, const void *a, const void *b, size_t count);

// The same of doubles with twice the digits: sums[0] is the product, sums[1] what its rounding left out.
void cairn_merge_dot_compensated(int level, const double *a, const double *b, size_t count, double sums[2]);

// Which elements of a task vector stay.
struct cairn_sparsity {
    // Magnitudes count as the bits of floats without the sign. An element stays whose magnitude lies above `low`, and one
    // that has it from `low_cut` on, or, if `low_keeps_first`, before; of the largest, one below `high`, and one that has
    // it before `high_cut`.
    int by_magnitude;
    uint32_t low, high;
    uint64_t low_cut, high_cut;
    int low_keeps_first;
    // An element stays whose number of the generator (Philox4x32-10: word i%4 of the block i/4 of the stream) is below
    // `limit`, which is at most 2^32.
    int at_random;
    uint64_t key, stream, limit;
    // What those that stay are multiplied by; 0 for nothing.
    double scale;
};

// One task vector of a merge.
struct cairn_task {
    struct cairn_elements x;
    struct cairn_sparsity sparsity;
    double weight;
};

// How task vectors are put together.
struct cairn_task_rule {
    int takes_majority;  // only those whose sign is that of the weighted sum
    int normalizes;      // divides by the sum of the weights that took part
    double least_divisor;  // with the majority's sign: sums of weights up to this count as none, and divide nothing
    double lambda;
};

// result[i] = base[i] + lambda * (the weighted task vectors at i). `first` is the index of element 0 in its tensor.
// `result` holds floats, or doubles where `precise`. At most CAIRN_MOST_TASKS tasks.
enum { CAIRN_MOST_TASKS = 64 };
void cairn_merge_tasks(int level, int precise, struct cairn_elements base, const struct cairn_task *tasks, int task_count,
                       struct cairn_task_rule rule, uint64_t first, void *result, size_t count);

// Adds to `before` the sum of the magnitudes of a task vector and to `after` that of the elements that stay.
void cairn_merge_norms(int level, int precise, struct cairn_elements x, struct cairn_elements base,
                       const struct cairn_sparsity *sparsity, uint64_t first, size_t count, double *before, double *after);

// Counts magnitudes of a task vector by their upper 16 of 31 bits, in 65536 counters.
void cairn_merge_count_upper(int level, int precise, struct cairn_elements x, struct cairn_elements base, size_t count,
                             uint64_t *counters);

// Counts those with these upper bits by their lower 15, in 32768 counters.
void cairn_merge_count_lower(int level, int precise, struct cairn_elements x, struct cairn_elements base, uint32_t upper,
                             size_t count, uint64_t *counters);

// How many have exactly this magnitude; stops behind the one of number `limit`, whose position comes back in `position`.
size_t cairn_merge_count_equal(int level, int precise, struct cairn_elements x, struct cairn_elements base,
                               uint32_t magnitude, size_t limit, size_t count, size_t *position);

// products[i * b_rows + j] += the scalar product of row i of `a` and row j of `b`, which have `length` floats each.
void cairn_merge_products(int level, const float *a, size_t a_rows, const float *b, size_t b_rows, size_t length,
                          double *products);

// The generator's 32-bit numbers `first`, `first + 1`, … of a stream.
void cairn_philox_fill(int level, uint64_t key, uint64_t stream, uint64_t first, uint32_t *numbers, size_t count);

#endif
