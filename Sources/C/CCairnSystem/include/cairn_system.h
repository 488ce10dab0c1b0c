// System calls and constants that Swift cannot see without _GNU_SOURCE.
#ifndef CAIRN_SYSTEM_H
#define CAIRN_SYSTEM_H
#include <stdint.h>
#include <sys/types.h>

// Starts writing the pages of a byte range back to the device without waiting. Does nothing where there is no such
// call.
void cairn_start_writeback(int descriptor, int64_t offset, int64_t length);

// Reserves space for the first `length` bytes and grows the file to that size. 0, or -1 with errno set: EOPNOTSUPP
// where the system cannot reserve.
int cairn_allocate(int descriptor, int64_t length);

// Lets reads and writes of a descriptor pass by the page cache, or ends that. 0, or -1 with errno set: EINVAL where the
// file system cannot.
int cairn_set_direct(int descriptor, int direct);

// What addresses of memory must be multiples of in reads and writes that pass by the page cache: a power of two, at most
// 4096.
int cairn_direct_memory_alignment(int descriptor);

// How many of `count` pages, spread evenly over the first `length` bytes of a file, are in the page cache; -1 where that
// cannot be told.
int cairn_cached_samples(int descriptor, int64_t length, int count);

// The processor that this thread runs on, or -1 where the system does not say.
int cairn_current_processor(void);

// Lets this thread run on every processor that it might use before the first call, but not on that one; on all of them if
// it is -1 or the only one. Does nothing where there is no such call.
void cairn_keep_off_processor(int processor);

#endif
