#include "isal_calls.h"

#include <isa-l.h>

#if defined(__x86_64__)
#include <immintrin.h>

// Only processors with AVX have upper halves to clean.
__attribute__((target("avx"))) static void clean_upper_halves(void) { _mm256_zeroupper(); }

static void leave(void) {
    if (__builtin_cpu_supports("avx")) clean_upper_halves();
}
#else
static void leave(void) {}
#endif

void cairn_ec_matrix(int data_count, int parity_count, uint8_t *matrix) {
    gf_gen_cauchy1_matrix(matrix, data_count + parity_count, data_count);
    leave();
}

int cairn_ec_invert(uint8_t *matrix, uint8_t *inverse, int count) {
    int result = gf_invert_matrix(matrix, inverse, count);
    leave();
    return result;
}

void cairn_ec_tables(int source_count, int rows, const uint8_t *coefficients, uint8_t *tables) {
    // The library only reads the coefficients, and has no const.
    ec_init_tables(source_count, rows, (uint8_t *)coefficients, tables);
    leave();
}

void cairn_ec_combine(
    size_t byte_count, int source_count, int rows, const uint8_t *tables, const uint8_t *const *sources,
    uint8_t *const *targets) {
    ec_encode_data((int)byte_count, source_count, rows, (uint8_t *)tables, (uint8_t **)sources, (uint8_t **)targets);
    leave();
}

void cairn_ec_add(size_t byte_count, const uint8_t *tables, const uint8_t *source, uint8_t *target) {
    ec_encode_data_update((int)byte_count, 1, 1, 0, (uint8_t *)tables, (uint8_t *)source, &target);
    leave();
}
