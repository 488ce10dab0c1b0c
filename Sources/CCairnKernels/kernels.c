#include "cairn_kernels.h"
