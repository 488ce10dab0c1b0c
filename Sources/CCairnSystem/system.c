#define _GNU_SOURCE
#include "cairn_system.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
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

int cairn_set_direct(int descriptor, int direct) {
#if defined(__linux__)
    int flags = fcntl(descriptor, F_GETFL);
    if (flags == -1) return -1;
    return fcntl(descriptor, F_SETFL, direct ? flags | O_DIRECT : flags & ~O_DIRECT);
#elif defined(F_NOCACHE)
    return fcntl(descriptor, F_NOCACHE, direct) == -1 ? -1 : 0;
#else
    (void)descriptor; (void)direct;
    errno = EINVAL;
    return -1;
#endif
}

int cairn_direct_memory_alignment(int descriptor) {
#if defined(__linux__) && defined(STATX_DIOALIGN)
    struct statx status;
    if (statx(descriptor, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) == 0 && (status.stx_mask & STATX_DIOALIGN)) {
        unsigned alignment = status.stx_dio_mem_align;
        if (alignment > 0 && alignment <= 4096 && (alignment & (alignment - 1)) == 0) return (int)alignment;
    }
#endif
    (void)descriptor;
    return 4096;
}
