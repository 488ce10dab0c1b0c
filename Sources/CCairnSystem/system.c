#define _GNU_SOURCE
#include "cairn_system.h"
#include <fcntl.h>

void cairn_start_writeback(int descriptor, int64_t offset, int64_t length) {
#ifdef __linux__
    (void)sync_file_range(descriptor, offset, length, SYNC_FILE_RANGE_WRITE);
#else
    (void)descriptor; (void)offset; (void)length;
#endif
}

int cairn_o_direct(void) {
#ifdef O_DIRECT
    return O_DIRECT;
#else
    return 0;
#endif
}
