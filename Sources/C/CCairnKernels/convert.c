#include "cairn_convert.h"

#include <string.h>

#include "cairn_level.h"
#include "convert_kernels.h"

static const uint8_t width_of[CAIRN_SCALAR_COUNT] = {1, 1, 1, 2, 2, 4, 4, 8, 8, 1, 1, 1, 1, 1, 2, 2, 4, 8};

static int is_narrow_float(int type) { return type >= CAIRN_F8_E5M2 && type <= CAIRN_F8_E5M2FNUZ; }

void cairn_convert(int level, int source_type, const void *source, int destination_type, void *destination,
                   size_t count, int saturate) {
    if (count == 0 || (unsigned)source_type >= CAIRN_SCALAR_COUNT || (unsigned)destination_type >= CAIRN_SCALAR_COUNT)
        return;
    const uint8_t *s = source;
    uint8_t *d = destination;
    if (source_type == destination_type) {
        memcpy(d, s, count * width_of[source_type]);
        return;
    }
    const int highest = cairn_instruction_level();
    if (level > highest) level = highest;
    convert_kernel *to = cairn_kernel_to_f32(level, source_type);
    convert_kernel *from = cairn_kernel_from_f32(level, destination_type);
    // Only the kernels to 8-bit formats know how to saturate.
    if (saturate && !is_narrow_float(destination_type)) to = from = NULL;
    if (to && destination_type == CAIRN_F32) {
        to(s, d, count, saturate);
    } else if (from && source_type == CAIRN_F32) {
        from(s, d, count, saturate);
    } else if (to && from && source_type != CAIRN_F64) {
        enum { block_count = 1024 };
        float block[block_count];
        while (count > 0) {
            const size_t n = count < block_count ? count : block_count;
            to(s, (uint8_t *)block, n, saturate);
            from((const uint8_t *)block, d, n, saturate);
            s += n * width_of[source_type];
            d += n * width_of[destination_type];
            count -= n;
        }
    } else {
        cairn_convert_portable(source_type, s, destination_type, d, count, saturate);
    }
}
