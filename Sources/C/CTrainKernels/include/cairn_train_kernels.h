#pragma once

#include <stddef.h>
#include <stdint.h>

// Single-threaded loops of neural-network training, vectorised for the processor found at run time. All matrices are
// row-major. A reduction adds in an order that depends on the length alone, so equal input gives equal bits.

// MARK: Element by element

// GELU in its tanh form: x * sigmoid(1.5957691 * (x + 0.044715 x^3)).
void cairn_gelu(size_t n, const float *x, float *y);
// dx = dy * gelu'(x). `dy` and `dx` may be the same.
void cairn_gelu_backward(size_t n, const float *x, const float *dy, float *dx);
// y = silu(gate) * up
void cairn_swiglu(size_t n, const float *gate, const float *up, float *y);
void cairn_swiglu_backward(
    size_t n, const float *gate, const float *up, const float *dy, float *dgate, float *dup);
void cairn_relu(size_t n, const float *x, float *y);
void cairn_relu_backward(size_t n, const float *x, const float *dy, float *dx);
// y[i] = e to the power of x[i], to about 1 ulp, subnormal results excepted.
void cairn_exp(size_t n, const float *x, float *y);

// MARK: Row by row

// Copies `source` (or zero when null) to `destination`, plus `bias` (may be null) on each row.
void cairn_fill_rows(
    size_t rows, size_t columns, const float *source, const float *bias, float *destination, size_t stride);
// sum[c] += the sum of column c
void cairn_add_columns(size_t rows, size_t columns, const float *x, size_t stride, float *sum);

// y = (x - mean) / sqrt(variance + epsilon) * weight + bias; `bias` may be null. With `centred` zero the mean counts as
// zero (RMS norm). `statistics` takes mean and reciprocal deviation of each row.
void cairn_norm(
    size_t rows, size_t columns, int centred, float epsilon, const float *x, const float *weight, const float *bias,
    float *y, float *statistics);
// dx += the gradient by x; dweight and dbias (may be null) accumulate.
void cairn_norm_backward(
    size_t rows, size_t columns, int centred, const float *x, const float *statistics, const float *weight,
    const float *dy, float *dx, float *dweight, float *dbias);

// Rows of attention scores to probabilities, in place: row i sees `first + i + 1` columns, the rest become zero.
void cairn_causal_softmax(size_t rows, size_t columns, size_t stride, size_t first, float scale, float *scores);
// dp becomes the gradient by the unscaled scores.
void cairn_softmax_backward(
    size_t rows, size_t columns, size_t stride, float scale, const float *p, float *dp, size_t dstride);

// The sum over rows of -log softmax(logits)[target]. The logits become its gradient times `scale`. Adds to `correct`
// how many targets have the largest logit.
double cairn_cross_entropy(
    size_t rows, size_t columns, const int32_t *targets, float scale, float *logits, int64_t *correct);

// The same of logits whose columns are divided over `count` parts, in two halves with an exchange between. Of its
// columns, which begin at `first`, a part finds for each row the largest logit, the sum of the exponentials relative to
// it, and the target's logit (minus infinity when the target is elsewhere): `statistics`, [rows, 3]. The logits become
// exponentials.
void cairn_cross_entropy_part(
    size_t rows, size_t columns, const int32_t *targets, int32_t first, float *logits, float *statistics);
// From the `statistics` of all parts, [count, rows, 3], the sum over rows and, of part `index`, the gradient times
// `scale` in place of the exponentials. Loss and `correct` have the same bits in every part.
double cairn_cross_entropy_join(
    size_t rows, size_t columns, const int32_t *targets, int32_t first, float scale, size_t count, size_t index,
    const float *statistics, float *exponentials, int64_t *correct);

// Rotates the pairs (i, i + width / 2) of each head by the angle of its row; `sign` -1 turns back.
void cairn_rotate(
    size_t rows, size_t heads, size_t width, size_t stride, const float *cosines, const float *sines, float sign,
    float *x);

// y[r] = the token's row of a table that has the `count` tokens from `first` on; zero for other tokens.
void cairn_gather(
    size_t rows, size_t columns, const int32_t *tokens, int32_t first, int32_t count, const float *table, float *y);
// The way back: adds dy[r] to the token's row of dtable; leaves other tokens out.
void cairn_scatter_add(
    size_t rows, size_t columns, const int32_t *tokens, int32_t first, int32_t count, const float *dy,
    float *dtable);
// y[i] += x[i]
void cairn_add(size_t n, const float *x, float *y);

// MARK: Experts

// Of each row of scores the `chosen` largest, of equal ones the first: `choices`, and in `shares` `scale` times the
// softmax over them alone. The scores become their softmax.
void cairn_route(
    size_t rows, size_t experts, size_t chosen, float scale, float *scores, int32_t *choices, float *shares);
// The gradient by the scores, from that by the shares and from `pressure` times the sum of load * probability.
void cairn_route_backward(
    size_t rows, size_t experts, size_t chosen, float scale, const float *probabilities, const int32_t *choices,
    const float *shares, const float *dshares, float pressure, const float *load, float *dscores);
// `load` becomes the fraction of choices that each expert has. Returns the number of experts times the sum over them of
// load and mean probability: 1 where either is even.
double cairn_balance(
    size_t rows, size_t experts, size_t chosen, const float *probabilities, const int32_t *choices, float *load);
// y[r] = residual[r] (zero when null) + the sum over k of shares[r][k] (1 when null) * x[places[r][k]]
void cairn_combine(
    size_t rows, size_t columns, size_t chosen, const int32_t *places, const float *shares, const float *x,
    const float *residual, float *y);
// dx[places[r][k]] = shares[r][k] * dy[r]; dshares[r][k] = dy[r] . x[places[r][k]]
void cairn_combine_backward(
    size_t rows, size_t columns, size_t chosen, const int32_t *places, const float *shares, const float *x,
    const float *dy, float *dx, float *dshares);

// MARK: Optimizers
//
// Old and new may be the same memory.

// Adds `count` arrays element by element into `sum`; returns the sum of the squares of the result.
double cairn_reduce(size_t n, size_t count, const float *const *parts, float *sum);
// The sum of the squares.
double cairn_squares(size_t n, const float *x);

typedef struct {
    float gradient_scale, learning_rate, weight_decay, beta1, beta2, epsilon;
    // 1 - beta1^t and the square root of 1 - beta2^t
    float correction1, correction2_root;
} cairn_adamw_step;
void cairn_adamw(
    size_t n, cairn_adamw_step s, const float *gradient, const float *weight, float *new_weight, const float *first,
    float *new_first, const float *second, float *new_second);

typedef struct {
    float gradient_scale, learning_rate, weight_decay, momentum;
    int nesterov;
} cairn_sgd_step;
void cairn_sgd(
    size_t n, cairn_sgd_step s, const float *gradient, const float *weight, float *new_weight, const float *momentum,
    float *new_momentum);

// new_momentum = lerp(momentum, g, 1 - beta); update = lerp(g, new_momentum, beta), g the scaled gradient. Returns the
// sum of the squares of the update.
double cairn_muon_momentum(
    size_t n, float gradient_scale, float beta, const float *gradient, const float *momentum, float *new_momentum,
    float *update);
// y = a * x + b * y
void cairn_scale_add(size_t n, float a, const float *x, float b, const float *y, float *result);
