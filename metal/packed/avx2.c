/* For x86-64 processors with AVX2, FMA and F16C: those since 2013. */
#if defined(__x86_64__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#define __F16C__ 1
#define MOST 4
#define WORDS 256
#define KIND "AVX2"
#define KERNELS likely_avx2
#include "kernels.h"
#pragma clang attribute pop
#endif
