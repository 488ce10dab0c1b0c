// CRC-32C (Castagnoli), as in RFC 3720: reflected polynomial 0x82F63B78, register and result inverted.
#ifndef CAIRN_CRC32C_H
#define CAIRN_CRC32C_H

#include <stddef.h>
#include <stdint.h>

// The checksum of what `crc` is the checksum of, followed by `count` bytes. Start with 0.
uint32_t cairn_crc32c(uint32_t crc, const void *bytes, size_t count);

// The same with the instructions of `level`, or of the highest level that the processor runs if that is lower.
uint32_t cairn_crc32c_at_level(int level, uint32_t crc, const void *bytes, size_t count);

#endif
