// Searches among numbers.
#ifndef CAIRN_FIND_H
#define CAIRN_FIND_H

#include <stddef.h>
#include <stdint.h>

// Whether any of `count` little-endian numbers of `width` bytes (1, 2, 4 or 8), of any alignment, is `value` in the bits of `mask`.
int cairn_find_masked(const void *bytes, size_t count, int width, uint64_t mask, uint64_t value);

#endif
