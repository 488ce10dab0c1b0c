#define _GNU_SOURCE
#include "cairn_system.h"
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

void cairn_start_writeback(int descriptor, int64_t offset, int64_t length) {
#ifdef __linux__
    (void)sync_file_range(descriptor, offset, length, SYNC_FILE_RANGE_WRITE);
#else
    (void)descriptor; (void)offset; (void)length;
#endif
}

int cairn_allocate(int descriptor, int64_t length) {
#if defined(__linux__)
    return fallocate(descriptor, 0, 0, length);
#elif defined(F_PREALLOCATE)
    fstore_t store = {F_ALLOCATEALL, F_PEOFPOSMODE, 0, length, 0};
    if (fcntl(descriptor, F_PREALLOCATE, &store) == -1) return -1;
    return ftruncate(descriptor, length);
#else
    (void)descriptor; (void)length;
    errno = EOPNOTSUPP;
    return -1;
#endif
}
