/* Without more than every processor of its kind has: SSE2 on x86-64, NEON on aarch64. */
#if defined(__aarch64__)
#define MOST 2
#define KIND "NEON"
#else
#define MOST 1
#define KIND "SSE2"
#endif
#define WORDS 0
#define KERNELS likely_plain
#include "kernels.h"
