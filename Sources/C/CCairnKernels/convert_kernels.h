// What the conversion's sources share.
#ifndef CAIRN_CONVERT_KERNELS_H
#define CAIRN_CONVERT_KERNELS_H

#include <stddef.h>
#include <stdint.h>

// Converts `count` elements.
typedef void convert_kernel(const uint8_t *source, uint8_t *destination, size_t count, int saturate);

// Any pair of types, through blocks of doubles or 64-bit integers.
void cairn_convert_portable(int source_type, const uint8_t *source, int destination_type, uint8_t *destination,
                            size_t count, int saturate);

// The kernels of a level from a type to single precision and back, or null. A value of a type with the first kernel is
// one of single precision, save for F64: that one rounds.
convert_kernel *cairn_kernel_to_f32(int level, int type);
convert_kernel *cairn_kernel_from_f32(int level, int type);

#endif
