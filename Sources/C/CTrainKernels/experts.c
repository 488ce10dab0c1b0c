#include "cairn_train_kernels.h"
#include "vectors.h"

DISPATCHED void cairn_route(
    size_t rows, size_t experts, size_t chosen, float scale, float *scores, int32_t *choices, float *shares) {
    for (size_t r = 0; r < rows; r++) {
        float *row = scores + r * experts;
        int32_t *choice = choices + r * chosen;
        float *share = shares + r * chosen;
        // The largest first; of equal ones the first. Insertion is quick for the few that are chosen.
        size_t found = 0;
        for (size_t e = 0; e < experts; e++) {
            if (found == chosen && !(row[e] > share[chosen - 1])) continue;
            size_t at = found < chosen ? found++ : chosen - 1;
            while (at > 0 && row[e] > share[at - 1]) {
                share[at] = share[at - 1];
                choice[at] = choice[at - 1];
                at--;
            }
            share[at] = row[e];
            choice[at] = (int32_t)e;
        }
        float largest = share[0], sum = 0, total = 0;
        for (size_t k = 0; k < chosen; k++) {
            share[k] = fast_exp(share[k] - largest);
            sum += share[k];
        }
        for (size_t k = 0; k < chosen; k++) share[k] *= scale / sum;
        for (size_t e = 0; e < experts; e++) {
            row[e] = fast_exp(row[e] - largest);
            total += row[e];
        }
        for (size_t e = 0; e < experts; e++) row[e] /= total;
    }
}

DISPATCHED void cairn_route_backward(
    size_t rows, size_t experts, size_t chosen, float scale, const float *probabilities, const int32_t *choices,
    const float *shares, const float *dshares, float pressure, const float *load, float *dscores) {
    for (size_t r = 0; r < rows; r++) {
        const float *p = probabilities + r * experts;
        float *d = dscores + r * experts;
        float mean = 0;
        for (size_t e = 0; e < experts; e++) mean += p[e] * load[e];
        for (size_t e = 0; e < experts; e++) d[e] = pressure * p[e] * (load[e] - mean);
        const float *share = shares + r * chosen, *dshare = dshares + r * chosen;
        float inner = 0;
        for (size_t k = 0; k < chosen; k++) inner += share[k] * dshare[k];
        for (size_t k = 0; k < chosen; k++) d[choices[r * chosen + k]] += share[k] * (dshare[k] - inner / scale);
    }
}

DISPATCHED double cairn_balance(
    size_t rows, size_t experts, size_t chosen, const float *probabilities, const int32_t *choices, float *load) {
    for (size_t e = 0; e < experts; e++) load[e] = 0;
    for (size_t i = 0; i < rows * chosen; i++) load[choices[i]] += 1;
    double sum = 0;
    for (size_t e = 0; e < experts; e++) {
        double mean = 0;
        for (size_t r = 0; r < rows; r++) mean += (double)probabilities[r * experts + e];
        load[e] /= (float)(rows * chosen);
        sum += (double)load[e] * mean / (double)rows;
    }
    return sum * (double)experts;
}

DISPATCHED void cairn_combine(
    size_t rows, size_t columns, size_t chosen, const int32_t *places, const float *shares, const float *x,
    const float *residual, float *y) {
    for (size_t r = 0; r < rows; r++) {
        float *to = y + r * columns;
        if (residual) {
            memcpy(to, residual + r * columns, columns * sizeof *to);
        } else {
            memset(to, 0, columns * sizeof *to);
        }
        for (size_t k = 0; k < chosen; k++) {
            const float *from = x + (size_t)places[r * chosen + k] * columns;
            float share = shares ? shares[r * chosen + k] : 1.0f;
            INDEPENDENT for (size_t c = 0; c < columns; c++) to[c] += share * from[c];
        }
    }
}

DISPATCHED void cairn_combine_backward(
    size_t rows, size_t columns, size_t chosen, const int32_t *places, const float *shares, const float *x,
    const float *dy, float *dx, float *dshares) {
    for (size_t r = 0; r < rows; r++) {
        const float *d = dy + r * columns;
        for (size_t k = 0; k < chosen; k++) {
            size_t place = (size_t)places[r * chosen + k];
            const float *from = x + place * columns;
            float *to = dx + place * columns;
            float share = shares[r * chosen + k];
            lanes total = {0};
            size_t c = 0;
            for (; c + 16 <= columns; c += 16) total += load_lanes(d + c) * load_lanes(from + c);
            float sum = sum_lanes(&total);
            for (; c < columns; c++) sum += d[c] * from[c];
            dshares[r * chosen + k] = sum;
            INDEPENDENT for (size_t i = 0; i < columns; i++) to[i] = share * d[i];
        }
    }
}
