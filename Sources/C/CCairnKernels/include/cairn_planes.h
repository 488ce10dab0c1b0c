// Byte planes: the bytes of an array regrouped by significance.
#ifndef CAIRN_PLANES_H
#define CAIRN_PLANES_H

#include <stddef.h>
#include <stdint.h>

// Writes byte k of each element to planes[k], which has room for `elements` bytes. With `rotates`, each element is first
// rotated left by one bit, as the little-endian number that it is: the sign of a float becomes its lowest bit, and its
// exponent begins at its highest. `width` is 2, 4 or 8 bytes; nothing is done for another one. Buffers do not overlap.
// `level` as in cairn_level.h, lowered to what the processor runs.
void cairn_planes_split(int level, const void *source, uint8_t *const *planes, size_t elements, int width, int rotates);

// The inverse.
void cairn_planes_join(
    int level, const uint8_t *const *planes, void *destination, size_t elements, int width, int rotates);

// The most elements that a sample has.
enum { CAIRN_PLANES_SAMPLE = 4096 };

// Counts how often each byte occurs in each plane of a sample of the elements: counts[256 * k + byte]. The planes need not
// be there. `width` is 1, 2, 4 or 8. Returns how many elements the sample has: all of a short array, of another one runs
// that are spread over it.
size_t cairn_planes_sample(const void *source, size_t elements, int width, int rotates, uint32_t *counts);

#endif
