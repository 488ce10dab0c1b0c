// CRC-32 as zip and zlib have it: reflected polynomial 0xEDB88320, register and result inverted.
#ifndef CAIRN_CRC32_H
#define CAIRN_CRC32_H

#include <stddef.h>
#include <stdint.h>

// Continues the checksum `*crc` over the longest beginning of `bytes` that the processor's carry-less multiplication
// takes, and returns how many bytes that were: none on processors without it. The rest is left to zlib.
size_t cairn_crc32_fold(uint32_t *crc, const void *bytes, size_t count);

#endif
