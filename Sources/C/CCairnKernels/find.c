#include "cairn_find.h"

#include <string.h>

// Elements that are looked at between two decisions to stop: few enough to stop soon, enough for loops without branches.
enum { block = 4096 };

#define DEFINE_FIND(type)                                                                                              \
    static int find_##type(const uint8_t *bytes, size_t count, type mask, type value) {                                \
        for (size_t begin = 0; begin < count; begin += block) {                                                        \
            size_t end = count - begin < block ? count : begin + block;                                                \
            type found = 0;                                                                                            \
            for (size_t i = begin; i < end; i++) {                                                                     \
                type v;                                                                                                \
                memcpy(&v, bytes + i * sizeof v, sizeof v);                                                            \
                found |= (type)((v & mask) == value);                                                                  \
            }                                                                                                          \
            if (found) return 1;                                                                                       \
        }                                                                                                              \
        return 0;                                                                                                      \
    }

DEFINE_FIND(uint8_t)
DEFINE_FIND(uint16_t)
DEFINE_FIND(uint32_t)
DEFINE_FIND(uint64_t)

int cairn_find_masked(const void *bytes, size_t count, int width, uint64_t mask, uint64_t value) {
    switch (width) {
        case 1: return find_uint8_t(bytes, count, (uint8_t)mask, (uint8_t)value);
        case 2: return find_uint16_t(bytes, count, (uint16_t)mask, (uint16_t)value);
        case 4: return find_uint32_t(bytes, count, (uint32_t)mask, (uint32_t)value);
        case 8: return find_uint64_t(bytes, count, mask, value);
        default: return 0;
    }
}
