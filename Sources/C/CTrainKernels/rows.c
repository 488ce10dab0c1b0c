#include "cairn_train_kernels.h"
#include "vectors.h"

#include <math.h>

INLINE float sum_of(size_t n, const float *x) {
    lanes total = {0};
    size_t i = 0;
    for (; i + 16 <= n; i += 16) total += load_lanes(x + i);
    float sum = sum_lanes(&total);
    for (; i < n; i++) sum += x[i];
    return sum;
}

INLINE float dot(size_t n, const float *x, const float *y) {
    lanes total = {0};
    size_t i = 0;
    for (; i + 16 <= n; i += 16) total += load_lanes(x + i) * load_lanes(y + i);
    float sum = sum_lanes(&total);
    for (; i < n; i++) sum += x[i] * y[i];
    return sum;
}

INLINE float maximum(size_t n, const float *x) {
    float largest[16];
    for (int l = 0; l < 16; l++) largest[l] = x[0];
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int l = 0; l < 16; l++) largest[l] = x[i + l] > largest[l] ? x[i + l] : largest[l];
    for (; i < n; i++) largest[0] = x[i] > largest[0] ? x[i] : largest[0];
    for (int l = 1; l < 16; l++) largest[0] = largest[l] > largest[0] ? largest[l] : largest[0];
    return largest[0];
}

DISPATCHED void cairn_norm(
    size_t rows, size_t columns, int centred, float epsilon, const float *x, const float *weight, const float *bias,
    float *y, float *statistics) {
    for (size_t r = 0; r < rows; r++) {
        const float *from = x + r * columns;
        float *to = y + r * columns;
        float mean = 0, squares;
        if (centred) {
            mean = sum_of(columns, from) / (float)columns;
            INDEPENDENT for (size_t c = 0; c < columns; c++) to[c] = from[c] - mean;
            squares = dot(columns, to, to);
        } else {
            squares = dot(columns, from, from);
        }
        float scale = 1.0f / __builtin_elementwise_sqrt(squares / (float)columns + epsilon);
        statistics[2 * r] = mean;
        statistics[2 * r + 1] = scale;
        if (bias) {
            INDEPENDENT for (size_t c = 0; c < columns; c++)
                to[c] = (from[c] - mean) * scale * weight[c] + bias[c];
        } else {
            INDEPENDENT for (size_t c = 0; c < columns; c++) to[c] = (from[c] - mean) * scale * weight[c];
        }
    }
}

INLINE void norm_backward_row(
    size_t columns, int centred, const float *restrict x, float mean, float scale, const float *restrict weight,
    const float *restrict dy, float *restrict dx, float *restrict dweight) {
    lanes sum_g = {0}, sum_gx = {0};
    size_t i = 0;
    for (; i + 16 <= columns; i += 16) {
        lanes g = load_lanes(dy + i) * load_lanes(weight + i);
        sum_g += g;
        sum_gx += g * ((load_lanes(x + i) - mean) * scale);
    }
    float total_g = sum_lanes(&sum_g), total_gx = sum_lanes(&sum_gx);
    for (; i < columns; i++) {
        float g = dy[i] * weight[i];
        total_g += g;
        total_gx += g * ((x[i] - mean) * scale);
    }
    float mean_g = centred ? total_g / (float)columns : 0.0f;
    float mean_gx = total_gx / (float)columns;
    for (size_t c = 0; c < columns; c++) {
        float normal = (x[c] - mean) * scale;
        dx[c] += scale * (dy[c] * weight[c] - mean_g - normal * mean_gx);
        dweight[c] += dy[c] * normal;
    }
}

DISPATCHED void cairn_norm_backward(
    size_t rows, size_t columns, int centred, const float *x, const float *statistics, const float *weight,
    const float *dy, float *dx, float *dweight, float *dbias) {
    for (size_t r = 0; r < rows; r++) {
        const float *d = dy + r * columns;
        norm_backward_row(
            columns, centred, x + r * columns, statistics[2 * r], statistics[2 * r + 1], weight, d, dx + r * columns,
            dweight);
        if (dbias) {
            INDEPENDENT for (size_t c = 0; c < columns; c++) dbias[c] += d[c];
        }
    }
}

DISPATCHED void cairn_causal_softmax(
    size_t rows, size_t columns, size_t stride, size_t first, float scale, float *scores) {
    for (size_t r = 0; r < rows; r++) {
        float *row = scores + r * stride;
        size_t n = first + r + 1;
        float largest = maximum(n, row);
        for (size_t c = 0; c < n; c++) row[c] = fast_exp((row[c] - largest) * scale);
        float reciprocal = 1.0f / sum_of(n, row);
        for (size_t c = 0; c < n; c++) row[c] *= reciprocal;
        memset(row + n, 0, (columns - n) * sizeof *row);
    }
}

DISPATCHED void cairn_softmax_backward(
    size_t rows, size_t columns, size_t stride, float scale, const float *p, float *dp, size_t dstride) {
    for (size_t r = 0; r < rows; r++) {
        const float *row = p + r * stride;
        float *d = dp + r * dstride;
        float mean = dot(columns, row, d);
        INDEPENDENT for (size_t c = 0; c < columns; c++) d[c] = row[c] * (d[c] - mean) * scale;
    }
}

DISPATCHED double cairn_cross_entropy(
    size_t rows, size_t columns, const int32_t *targets, float scale, float *logits, int64_t *correct) {
    double loss = 0;
    for (size_t r = 0; r < rows; r++) {
        float *row = logits + r * columns;
        float largest = maximum(columns, row), target = row[targets[r]];
        if (target >= largest) *correct += 1;
        for (size_t c = 0; c < columns; c++) row[c] = fast_exp(row[c] - largest);
        float sum = sum_of(columns, row);
        loss += log((double)sum) + (double)largest - (double)target;
        float factor = scale / sum;
        for (size_t c = 0; c < columns; c++) row[c] *= factor;
        row[targets[r]] -= scale;
    }
    return loss;
}

DISPATCHED void cairn_cross_entropy_part(
    size_t rows, size_t columns, const int32_t *targets, int32_t first, float *logits, float *statistics) {
    for (size_t r = 0; r < rows; r++) {
        float *row = logits + r * columns;
        uint32_t target = (uint32_t)targets[r] - (uint32_t)first;
        float largest = maximum(columns, row);
        statistics[3 * r] = largest;
        statistics[3 * r + 2] = target < columns ? row[target] : -INFINITY;
        for (size_t c = 0; c < columns; c++) row[c] = fast_exp(row[c] - largest);
        statistics[3 * r + 1] = sum_of(columns, row);
    }
}

DISPATCHED double cairn_cross_entropy_join(
    size_t rows, size_t columns, const int32_t *targets, int32_t first, float scale, size_t count, size_t index,
    const float *statistics, float *exponentials, int64_t *correct) {
    double loss = 0;
    for (size_t r = 0; r < rows; r++) {
        float largest = -INFINITY, target = -INFINITY, sum = 0;
        for (size_t p = 0; p < count; p++) {
            const float *part = statistics + 3 * (p * rows + r);
            largest = part[0] > largest ? part[0] : largest;
            target = part[2] > target ? part[2] : target;
        }
        for (size_t p = 0; p < count; p++) {
            const float *part = statistics + 3 * (p * rows + r);
            sum += part[1] * fast_exp(part[0] - largest);
        }
        if (target >= largest) *correct += 1;
        loss += log((double)sum) + (double)largest - (double)target;
        float *row = exponentials + r * columns;
        float factor = scale / sum * fast_exp(statistics[3 * (index * rows + r)] - largest);
        INDEPENDENT for (size_t c = 0; c < columns; c++) row[c] *= factor;
        uint32_t own = (uint32_t)targets[r] - (uint32_t)first;
        if (own < columns) row[own] -= scale;
    }
    return loss;
}
