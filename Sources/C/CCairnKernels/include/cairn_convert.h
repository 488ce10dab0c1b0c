// Conversion between scalar types. The semantics are documented where the Swift front declares them.
#ifndef CAIRN_CONVERT_H
#define CAIRN_CONVERT_H

#include <stddef.h>
#include <stdint.h>

// The types that convert to each other. An enumeration of this header, not a format: never stored.
enum cairn_scalar {
    CAIRN_BOOL, CAIRN_U8, CAIRN_I8, CAIRN_U16, CAIRN_I16, CAIRN_U32, CAIRN_I32, CAIRN_U64, CAIRN_I64,
    CAIRN_F8_E5M2, CAIRN_F8_E4M3, CAIRN_F8_E8M0, CAIRN_F8_E4M3FNUZ, CAIRN_F8_E5M2FNUZ,
    CAIRN_F16, CAIRN_BF16, CAIRN_F32, CAIRN_F64,
    CAIRN_SCALAR_COUNT
};

// Converts `count` elements of any alignment. The buffers do not overlap. `level` as in cairn_level.h, lowered to what
// the processor runs. `saturate` makes what exceeds the destination's range its largest value instead of what IEEE 754
// or two's complement say.
void cairn_convert(int level, int source_type, const void *source, int destination_type, void *destination,
                   size_t count, int saturate);

#endif
