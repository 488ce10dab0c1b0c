// Loops that the baseline instruction set runs too slowly, with run-time dispatch.
#ifndef CAIRN_KERNELS_H
#define CAIRN_KERNELS_H

#include "cairn_level.h"
#include "cairn_crc32.h"
#include "cairn_crc32c.h"
#include "cairn_planes.h"
#include "cairn_convert.h"
#include "cairn_find.h"
#include "cairn_merge.h"

#endif
