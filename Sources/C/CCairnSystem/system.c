#define _GNU_SOURCE
#include "cairn_system.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
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

int cairn_cached_samples(int descriptor, int64_t length, int count) {
#if defined(__linux__)
    long page = sysconf(_SC_PAGESIZE);
    if (length <= 0 || page <= 0 || count <= 0) return -1;
    char *start = mmap(NULL, (size_t)length, PROT_NONE, MAP_SHARED, descriptor, 0);
    if (start == MAP_FAILED) return -1;
    int64_t pages = (length + page - 1) / page;
    int cached = 0;
    for (int sample = 0; sample < count; sample++) {
        unsigned char state = 0;
        // The middle of each part.
        int64_t index = pages * (2 * (int64_t)sample + 1) / (2 * (int64_t)count);
        if (mincore(start + index * page, (size_t)page, &state) != 0) {
            cached = -1;
            break;
        }
        cached += state & 1;
    }
    munmap(start, (size_t)length);
    return cached;
#else
    (void)descriptor; (void)length; (void)count;
    return -1;
#endif
}

int cairn_current_processor(void) {
#ifdef __linux__
    return sched_getcpu();
#else
    return -1;
#endif
}

void cairn_keep_off_processor(int processor) {
#ifdef __linux__
    static _Thread_local cpu_set_t own;
    static _Thread_local int is_known;
    if (!is_known && sched_getaffinity(0, sizeof own, &own) != 0) return;
    is_known = 1;
    cpu_set_t allowed = own;
    if (processor >= 0 && processor < CPU_SETSIZE && CPU_COUNT(&allowed) > 1) CPU_CLR(processor, &allowed);
    (void)sched_setaffinity(0, sizeof allowed, &allowed);
#else
    (void)processor;
#endif
}
