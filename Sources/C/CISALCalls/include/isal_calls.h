#pragma once

#include <stddef.h>
#include <stdint.h>

// What of ISA-L's erasure code Cairn calls, with a vector unit that is clean afterwards: the library leaves the upper halves of
// its registers in use, which slows all SSE code of the thread down until the next vzeroupper.

// The rows of ISA-L's Cauchy matrix: the first `data_count` are the identity, `parity_count` follow. `matrix` has room for
// (data_count + parity_count) * data_count bytes; both together are at most 255.
void cairn_ec_matrix(int data_count, int parity_count, uint8_t *matrix);

// Inverts a square matrix of `count` rows and destroys it. Returns -1 if it has no inverse.
int cairn_ec_invert(uint8_t *matrix, uint8_t *inverse, int count);

// Expands `rows` rows of coefficients of `source_count` sources. `tables` has room for 32 * source_count * rows bytes.
void cairn_ec_tables(int source_count, int rows, const uint8_t *coefficients, uint8_t *tables);

// Computes `rows` blocks of `byte_count` bytes as sums of sources times their coefficients.
void cairn_ec_combine(
    size_t byte_count, int source_count, int rows, const uint8_t *tables, const uint8_t *const *sources,
    uint8_t *const *targets);

// Adds `byte_count` bytes of a source times a coefficient, expanded in `tables` of 32 bytes, to a target.
void cairn_ec_add(size_t byte_count, const uint8_t *tables, const uint8_t *source, uint8_t *target);
