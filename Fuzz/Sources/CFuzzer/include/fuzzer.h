#pragma once
#include <stddef.h>
#include <stdint.h>

/// Runs libFuzzer with a test: what its own main function calls.
int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*test)(const uint8_t *data, size_t size));
