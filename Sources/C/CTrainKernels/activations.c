#include "cairn_train_kernels.h"
#include "vectors.h"

DISPATCHED void cairn_exp(size_t n, const float *x, float *y) {
    INDEPENDENT for (size_t i = 0; i < n; i++) y[i] = fast_exp(x[i]);
}

DISPATCHED void cairn_gelu(size_t n, const float *x, float *y) {
    INDEPENDENT for (size_t i = 0; i < n; i++) {
        float v = x[i];
        y[i] = v * sigmoid(1.5957691216f * v * (1.0f + 0.044715f * v * v));
    }
}

DISPATCHED void cairn_gelu_backward(size_t n, const float *x, const float *dy, float *dx) {
    INDEPENDENT for (size_t i = 0; i < n; i++) {
        float v = x[i];
        float s = sigmoid(1.5957691216f * v * (1.0f + 0.044715f * v * v));
        float slope = 1.5957691216f * (1.0f + 3.0f * 0.044715f * v * v);
        dx[i] = dy[i] * (s + v * s * (1.0f - s) * slope);
    }
}

DISPATCHED void cairn_swiglu(size_t n, const float *gate, const float *up, float *y) {
    INDEPENDENT for (size_t i = 0; i < n; i++) y[i] = gate[i] * sigmoid(gate[i]) * up[i];
}

DISPATCHED void cairn_swiglu_backward(
    size_t n, const float *gate, const float *up, const float *dy, float *dgate, float *dup) {
    INDEPENDENT for (size_t i = 0; i < n; i++) {
        float g = gate[i], u = up[i], d = dy[i];
        float s = sigmoid(g);
        dup[i] = d * g * s;
        dgate[i] = d * u * s * (1.0f + g * (1.0f - s));
    }
}

DISPATCHED void cairn_relu(size_t n, const float *x, float *y) {
    INDEPENDENT for (size_t i = 0; i < n; i++) y[i] = x[i] > 0 ? x[i] : 0;
}

DISPATCHED void cairn_relu_backward(size_t n, const float *x, const float *dy, float *dx) {
    INDEPENDENT for (size_t i = 0; i < n; i++) dx[i] = x[i] > 0 ? dy[i] : 0;
}

DISPATCHED void cairn_add(size_t n, const float *x, float *y) {
    INDEPENDENT for (size_t i = 0; i < n; i++) y[i] += x[i];
}

DISPATCHED void cairn_fill_rows(
    size_t rows, size_t columns, const float *source, const float *bias, float *destination, size_t stride) {
    for (size_t r = 0; r < rows; r++) {
        float *to = destination + r * stride;
        const float *from = source ? source + r * columns : NULL;
        if (from && bias) {
            INDEPENDENT for (size_t c = 0; c < columns; c++) to[c] = from[c] + bias[c];
        } else if (from || bias) {
            memcpy(to, from ? from : bias, columns * sizeof *to);
        } else {
            memset(to, 0, columns * sizeof *to);
        }
    }
}

DISPATCHED void cairn_add_columns(size_t rows, size_t columns, const float *x, size_t stride, float *sum) {
    for (size_t r = 0; r < rows; r++) {
        const float *row = x + r * stride;
        INDEPENDENT for (size_t c = 0; c < columns; c++) sum[c] += row[c];
    }
}

DISPATCHED void cairn_rotate(
    size_t rows, size_t heads, size_t width, size_t stride, const float *cosines, const float *sines, float sign,
    float *x) {
    size_t half = width / 2;
    for (size_t r = 0; r < rows; r++) {
        const float *c = cosines + r * half, *s = sines + r * half;
        for (size_t h = 0; h < heads; h++) {
            float *a = x + r * stride + h * width, *b = a + half;
            INDEPENDENT for (size_t i = 0; i < half; i++) {
                float p = a[i], q = b[i], t = sign * s[i];
                a[i] = p * c[i] - q * t;
                b[i] = q * c[i] + p * t;
            }
        }
    }
}

void cairn_gather(
    size_t rows, size_t columns, const int32_t *tokens, int32_t first, int32_t count, const float *table, float *y) {
    for (size_t r = 0; r < rows; r++) {
        uint32_t row = (uint32_t)tokens[r] - (uint32_t)first;
        if (row < (uint32_t)count)
            memcpy(y + r * columns, table + (size_t)row * columns, columns * sizeof *y);
        else
            memset(y + r * columns, 0, columns * sizeof *y);
    }
}

DISPATCHED void cairn_scatter_add(
    size_t rows, size_t columns, const int32_t *tokens, int32_t first, int32_t count, const float *dy,
    float *dtable) {
    for (size_t r = 0; r < rows; r++) {
        uint32_t row = (uint32_t)tokens[r] - (uint32_t)first;
        if (row >= (uint32_t)count) continue;
        float *to = dtable + (size_t)row * columns;
        const float *from = dy + r * columns;
        INDEPENDENT for (size_t c = 0; c < columns; c++) to[c] += from[c];
    }
}
