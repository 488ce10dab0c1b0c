#include "cairn_level.h"

#include <stdatomic.h>

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

static int find_level(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("sse4.2") || !__builtin_cpu_supports("pclmul")) return 0;
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("f16c")) return 1;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl") ||
        !__builtin_cpu_supports("vpclmulqdq")) return 2;
    return 3;
#elif defined(__aarch64__) && defined(__APPLE__)
    return 1;
#elif defined(__aarch64__) && defined(__linux__)
    const unsigned long hwcap_crc32 = 1ul << 7;
    return (getauxval(AT_HWCAP) & hwcap_crc32) ? 1 : 0;
#else
    return 0;
#endif
}

int cairn_instruction_level(void) {
    // Holds the level plus one. Threads that race find the same value.
    static _Atomic int found;
    int level = atomic_load_explicit(&found, memory_order_relaxed) - 1;
    if (level < 0) {
        level = find_level();
        atomic_store_explicit(&found, level + 1, memory_order_relaxed);
    }
    return level;
}
