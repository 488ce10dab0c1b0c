// Which instructions a kernel may use.
#ifndef CAIRN_LEVEL_H
#define CAIRN_LEVEL_H

// Level 0 is portable C. On x86-64, 1 is SSE4.2 with PCLMULQDQ, 2 is AVX2 with F16C, 3 is AVX-512 (F, BW, DQ, VL) with
// VPCLMULQDQ. On arm64, 1 is the CRC32 extension.
enum { CAIRN_LEVEL_PORTABLE = 0, CAIRN_LEVEL_HIGHEST = 3 };

// The highest level that this processor and operating system run; found once.
int cairn_instruction_level(void);

#endif
