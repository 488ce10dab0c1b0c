#include "cairn_train_kernels.h"
#include "vectors.h"

// Squares are summed in float within a block and in double across blocks.
#define BLOCK 4096

INLINE double block_squares(size_t n, const float *x) {
    lanes total = {0};
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        lanes v = load_lanes(x + i);
        total += v * v;
    }
    float sum = sum_lanes(&total);
    for (; i < n; i++) sum += x[i] * x[i];
    return (double)sum;
}

DISPATCHED double cairn_reduce(size_t n, size_t count, const float *const *parts, float *sum) {
    double squares = 0;
    for (size_t start = 0; start < n; start += BLOCK) {
        size_t size = n - start < BLOCK ? n - start : BLOCK;
        float *to = sum + start;
        memmove(to, parts[0] + start, size * sizeof *to);
        for (size_t p = 1; p < count; p++) {
            const float *from = parts[p] + start;
            INDEPENDENT for (size_t i = 0; i < size; i++) to[i] += from[i];
        }
        squares += block_squares(size, to);
    }
    return squares;
}

DISPATCHED double cairn_squares(size_t n, const float *x) {
    double squares = 0;
    for (size_t start = 0; start < n; start += BLOCK)
        squares += block_squares(n - start < BLOCK ? n - start : BLOCK, x + start);
    return squares;
}

DISPATCHED void cairn_adamw(
    size_t n, cairn_adamw_step s, const float *gradient, const float *weight, float *new_weight, const float *first,
    float *new_first, const float *second, float *new_second) {
    float keep = 1.0f - s.learning_rate * s.weight_decay, rate = s.learning_rate / s.correction1;
    float rest1 = 1.0f - s.beta1, rest2 = 1.0f - s.beta2, root = 1.0f / s.correction2_root;
    INDEPENDENT for (size_t i = 0; i < n; i++) {
        float g = gradient[i] * s.gradient_scale;
        float m = first[i] + rest1 * (g - first[i]);
        float v = s.beta2 * second[i] + rest2 * g * g;
        new_first[i] = m;
        new_second[i] = v;
        new_weight[i] = weight[i] * keep - rate * m / (__builtin_elementwise_sqrt(v) * root + s.epsilon);
    }
}

DISPATCHED void cairn_sgd(
    size_t n, cairn_sgd_step s, const float *gradient, const float *weight, float *new_weight, const float *momentum,
    float *new_momentum) {
    float mix = s.nesterov ? s.momentum : 1.0f, direct = s.nesterov ? 1.0f : 0.0f;
    INDEPENDENT for (size_t i = 0; i < n; i++) {
        float w = weight[i];
        float g = gradient[i] * s.gradient_scale + s.weight_decay * w;
        float m = s.momentum * momentum[i] + g;
        new_momentum[i] = m;
        new_weight[i] = w - s.learning_rate * (direct * g + mix * m);
    }
}

DISPATCHED double cairn_muon_momentum(
    size_t n, float gradient_scale, float beta, const float *gradient, const float *momentum, float *new_momentum,
    float *update) {
    double squares = 0;
    for (size_t start = 0; start < n; start += BLOCK) {
        size_t end = n - start < BLOCK ? n : start + BLOCK;
        INDEPENDENT for (size_t i = start; i < end; i++) {
            float g = gradient[i] * gradient_scale;
            float m = momentum[i] + (1.0f - beta) * (g - momentum[i]);
            new_momentum[i] = m;
            update[i] = g + beta * (m - g);
        }
        squares += block_squares(end - start, update + start);
    }
    return squares;
}

DISPATCHED void cairn_scale_add(size_t n, float a, const float *x, float b, const float *y, float *result) {
    INDEPENDENT for (size_t i = 0; i < n; i++) result[i] = a * x[i] + b * y[i];
}
