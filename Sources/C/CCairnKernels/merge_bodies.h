// The loops of cairn_merge.h for one precision: included with REAL, its tensor type, a function FMA and a name NAME(x).
// Plain loops over short blocks, compiled once for each level.

// The elements as REAL: where they are, if they are that already, else converted into `block`.
INLINE const REAL *NAME(load)(int level, struct cairn_elements x, size_t begin, size_t count, REAL *block) {
    const uint8_t *bytes = (const uint8_t *)x.bytes + begin * merge_width_of[x.type];
    if (x.type == REAL_TYPE && (uintptr_t)bytes % sizeof(REAL) == 0) return (const REAL *)bytes;
    cairn_convert(level, x.type, bytes, REAL_TYPE, block, count, 0);
    return block;
}

INLINE const REAL *NAME(load_difference)(int level, struct cairn_elements x, struct cairn_elements base, size_t begin,
                                         size_t count, REAL *values) {
    REAL block[merge_block];
    const REAL *from = NAME(load)(level, x, begin, count, values);
    if (!base.bytes) return from;
    const REAL *restrict origin = NAME(load)(level, base, begin, count, block);
    for (size_t i = 0; i < count; i++) values[i] = from[i] - origin[i];
    return values;
}

INLINE void NAME(add)(int level, struct cairn_elements x, double weight, int begins, void *sums, size_t count) {
    REAL block[merge_block];
    const REAL w = (REAL)weight;
    for (size_t begin = 0; begin < count; begin += merge_block) {
        const size_t n = merge_least(merge_block, count - begin);
        const REAL *restrict from = NAME(load)(level, x, begin, n, block);
        REAL *restrict to = (REAL *)sums + begin;
        if (begins) for (size_t i = 0; i < n; i++) to[i] = w * from[i];
        else for (size_t i = 0; i < n; i++) to[i] = FMA(w, from[i], to[i]);
    }
}

INLINE void NAME(divide)(double divisor, void *sums, size_t count) {
    REAL *restrict to = sums;
    const REAL d = (REAL)divisor;
    for (size_t i = 0; i < count; i++) to[i] /= d;
}

INLINE void NAME(difference)(int level, struct cairn_elements x, struct cairn_elements base, void *values, size_t count) {
    for (size_t begin = 0; begin < count; begin += merge_block) {
        const size_t n = merge_least(merge_block, count - begin);
        REAL *to = (REAL *)values + begin;
        const REAL *from = NAME(load_difference)(level, x, base, begin, n, to);
        if (from != to) memcpy(to, from, n * sizeof(REAL));
    }
}

INLINE double NAME(dot)(const void *a, const void *b, size_t count) {
    enum { lanes = 16 };
    const REAL *restrict x = a, *restrict y = b;
    double sums[lanes] = {0};
    size_t i = 0;
    for (; i + lanes <= count; i += lanes)
        for (int k = 0; k < lanes; k++) sums[k] = __builtin_fma((double)x[i + k], (double)y[i + k], sums[k]);
    for (int k = 0; i < count; i++, k++) sums[k] = __builtin_fma((double)x[i], (double)y[i], sums[k]);
    double sum = 0;
    for (int k = 0; k < lanes; k++) sum += sums[k];
    return sum;
}

INLINE uint32_t NAME(magnitude)(REAL v) {
    float single = (float)v;
    uint32_t bits;
    memcpy(&bits, &single, 4);
    return bits & 0x7FFFFFFFu;
}

// values[i] = 0 for those that do not stay (as a product with 0), times the scale for the others. `first` is the index
// of the block's first element.
INLINE void NAME(thin)(const struct cairn_sparsity *s, uint64_t first, REAL *restrict values, size_t count) {
    uint32_t kept[merge_block];
    if (s->by_magnitude) {
        // Where in the block the order of equal magnitudes is cut.
        const uint32_t low = s->low, high = s->high;
        const uint32_t low_cut = merge_cut(s->low_cut, first, count), high_cut = merge_cut(s->high_cut, first, count);
        const uint32_t flip = s->low_keeps_first ? 0 : 1;
        for (size_t i = 0; i < count; i++) {
            const uint32_t m = NAME(magnitude)(values[i]), index = (uint32_t)i;
            const uint32_t above = (m > low) | ((m == low) & ((index < low_cut) ^ flip));
            const uint32_t below = (m < high) | ((m == high) & (index < high_cut));
            kept[i] = above & below;
        }
    } else {
        uint32_t numbers[merge_block];
        merge_philox(s->key, s->stream, first, numbers, count);
        if (s->limit >> 32) {
            for (size_t i = 0; i < count; i++) kept[i] = 1;
        } else {
            const uint32_t limit = (uint32_t)s->limit;
            for (size_t i = 0; i < count; i++) kept[i] = numbers[i] < limit;
        }
    }
    for (size_t i = 0; i < count; i++) values[i] *= (REAL)kept[i];
    if (s->scale != 0) {
        const REAL scale = (REAL)s->scale;
        for (size_t i = 0; i < count; i++) values[i] *= scale;
    }
}

INLINE void NAME(combine)(int level, struct cairn_elements base, const struct cairn_task *tasks, int task_count,
                          struct cairn_task_rule rule, uint64_t first, void *result, size_t count) {
    enum { block = merge_task_block };
    REAL origin_block[block], vectors[CAIRN_MOST_TASKS][block], total[block], mixed[block], divisor[block];
    REAL sum_of_weights = 0;
    for (int t = 0; t < task_count; t++) sum_of_weights += (REAL)tasks[t].weight;
    if ((sum_of_weights < 0 ? -sum_of_weights : sum_of_weights) < (REAL)1e-8) sum_of_weights = 1;
    for (size_t begin = 0; begin < count; begin += block) {
        const size_t n = merge_least(block, count - begin);
        const REAL *restrict origin = NAME(load)(level, base, begin, n, origin_block);
        for (size_t i = 0; i < n; i++) total[i] = 0;
        for (int t = 0; t < task_count; t++) {
            REAL *v = vectors[t];
            const REAL *x = NAME(load)(level, tasks[t].x, begin, n, v);
            for (size_t i = 0; i < n; i++) v[i] = x[i] - origin[i];
            if (tasks[t].sparsity.by_magnitude || tasks[t].sparsity.at_random)
                NAME(thin)(&tasks[t].sparsity, first + begin, v, n);
            const REAL w = (REAL)tasks[t].weight;
            for (size_t i = 0; i < n; i++) {
                v[i] *= w;
                total[i] += v[i];
            }
        }
        REAL *restrict to = (REAL *)result + begin;
        const REAL *restrict sum = total;
        if (rule.takes_majority) {
            for (size_t i = 0; i < n; i++) mixed[i] = divisor[i] = 0;
            for (int t = 0; t < task_count; t++) {
                const REAL *restrict v = vectors[t];
                const REAL w = (REAL)tasks[t].weight;
                for (size_t i = 0; i < n; i++) {
                    const int takes = total[i] >= 0 ? v[i] > 0 : v[i] < 0;
                    mixed[i] += takes ? v[i] : 0;
                    divisor[i] += takes ? w : 0;
                }
            }
            // What is not a number has no sign, and would drop out of its element: the sum of all has it.
            for (size_t i = 0; i < n; i++) mixed[i] = total[i] == total[i] ? mixed[i] : total[i];
            if (rule.normalizes) {
                const REAL least = (REAL)rule.least_divisor;
                for (size_t i = 0; i < n; i++) {
                    const REAL size = divisor[i] < 0 ? -divisor[i] : divisor[i];
                    mixed[i] /= size <= least ? 1 : divisor[i];
                }
            }
            sum = mixed;
        } else if (rule.normalizes) {
            for (size_t i = 0; i < n; i++) total[i] /= sum_of_weights;
        }
        const REAL lambda = (REAL)rule.lambda;
        if (lambda != 1) {
            for (size_t i = 0; i < n; i++) {
                const REAL product = sum[i] * lambda;
                to[i] = origin[i] + product;
            }
        } else {
            for (size_t i = 0; i < n; i++) to[i] = origin[i] + sum[i];
        }
    }
}

INLINE void NAME(norms)(int level, struct cairn_elements x, struct cairn_elements base,
                        const struct cairn_sparsity *sparsity, uint64_t first, size_t count, double *before, double *after) {
    enum { lanes = 16 };
    REAL block[merge_block];
    double whole[lanes] = {0}, rest[lanes] = {0};
    for (size_t begin = 0; begin < count; begin += merge_block) {
        const size_t n = merge_least(merge_block, count - begin);
        const REAL *from = NAME(load_difference)(level, x, base, begin, n, block);
        if (from != block) memcpy(block, from, n * sizeof(REAL));
        for (size_t i = n; i < merge_block; i++) block[i] = 0;
        for (size_t i = 0; i < merge_block; i += lanes)
            for (int k = 0; k < lanes; k++) whole[k] += (double)(block[i + k] < 0 ? -block[i + k] : block[i + k]);
        struct cairn_sparsity plain = *sparsity;
        plain.scale = 0;
        NAME(thin)(&plain, first + begin, block, n);
        for (size_t i = 0; i < merge_block; i += lanes)
            for (int k = 0; k < lanes; k++) rest[k] += (double)(block[i + k] < 0 ? -block[i + k] : block[i + k]);
    }
    for (int k = 0; k < lanes; k++) {
        *before += whole[k];
        *after += rest[k];
    }
}

// The magnitudes of a block of a task vector.
INLINE void NAME(magnitudes)(int level, struct cairn_elements x, struct cairn_elements base, size_t begin, size_t n,
                             uint32_t *restrict bits) {
    REAL block[merge_block];
    const REAL *restrict from = NAME(load_difference)(level, x, base, begin, n, block);
    for (size_t i = 0; i < n; i++) bits[i] = NAME(magnitude)(from[i]);
}

INLINE void NAME(count_upper)(int level, struct cairn_elements x, struct cairn_elements base, size_t count,
                              uint64_t *counters) {
    uint32_t bits[merge_block];
    for (size_t begin = 0; begin < count; begin += merge_block) {
        const size_t n = merge_least(merge_block, count - begin);
        NAME(magnitudes)(level, x, base, begin, n, bits);
        for (size_t i = 0; i < n; i++) counters[bits[i] >> 15]++;
    }
}

INLINE void NAME(count_lower)(int level, struct cairn_elements x, struct cairn_elements base, uint32_t upper,
                              size_t count, uint64_t *counters) {
    uint32_t bits[merge_block];
    for (size_t begin = 0; begin < count; begin += merge_block) {
        const size_t n = merge_least(merge_block, count - begin);
        NAME(magnitudes)(level, x, base, begin, n, bits);
        // Few have the upper bits: groups without any are skipped.
        for (size_t i = 0; i < n; i += 32) {
            const size_t end = merge_least(n, i + 32);
            uint32_t any = 0;
            for (size_t k = i; k < end; k++) any |= bits[k] >> 15 == upper;
            if (!any) continue;
            for (size_t k = i; k < end; k++)
                if (bits[k] >> 15 == upper) counters[bits[k] & 0x7FFF]++;
        }
    }
}

INLINE size_t NAME(count_equal)(int level, struct cairn_elements x, struct cairn_elements base, uint32_t magnitude,
                                size_t limit, size_t count, size_t *position) {
    uint32_t bits[merge_block];
    size_t found = 0;
    for (size_t begin = 0; begin < count; begin += merge_block) {
        const size_t n = merge_least(merge_block, count - begin);
        NAME(magnitudes)(level, x, base, begin, n, bits);
        uint32_t equal = 0;
        for (size_t i = 0; i < n; i++) equal += bits[i] == magnitude;
        if (found + equal >= limit) {
            for (size_t i = 0; i < n; i++)
                if (bits[i] == magnitude && ++found == limit) {
                    *position = begin + i;
                    return found;
                }
        }
        found += equal;
    }
    return found;
}
