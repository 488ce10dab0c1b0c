// The codec exponent-planes asks for Huffman literals, which only this part of the header names.
#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>
