// Byte planes: the bytes of an array regrouped by significance.
#ifndef CAIRN_PLANES_H
#define CAIRN_PLANES_H

#include <stddef.h>
#include <stdint.h>

// Writes byte 0 of each element, then byte 1 of each, and so on; then unchanged the bytes at the end that fill no
// element. `width` is 2, 4 or 8 bytes; nothing is done for another one. The buffers have `count` bytes and do not
// overlap. `level` as in cairn_level.h, lowered to what the processor runs.
void cairn_planes_split(int level, const void *source, void *destination, size_t count, int width);

// The inverse.
void cairn_planes_join(int level, const void *source, void *destination, size_t count, int width);

#endif
