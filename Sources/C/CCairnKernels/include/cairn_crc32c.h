// CRC-32C (Castagnoli), as in RFC 3720: reflected polynomial 0x82F63B78, register and result inverted.
#ifndef CAIRN_CRC32C_H
#define CAIRN_CRC32C_H

#include <stddef.h>
#include <stdint.h>

// The checksum of what `crc` is the checksum of, followed by `count` bytes. Start with 0.
uint32_t cairn_crc32c(uint32_t crc, const void *bytes, size_t count);

// The same with the instructions of `level`, or of the highest level that the processor runs if that is lower.
uint32_t cairn_crc32c_at_level(int level, uint32_t crc, const void *bytes, size_t count);

// Copies `count` bytes between buffers that do not overlap and returns their checksum, continuing `crc`.
uint32_t cairn_copy_crc32c(int level, void *destination, const void *source, size_t count, uint32_t crc);

// The checksum of A followed by B, from the checksums of both and the length of B.
uint32_t cairn_crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t count_b);

#endif
