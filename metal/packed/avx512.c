/* For x86-64 processors with AVX-512: F, BW, DQ, VL and VNNI. */
#if defined(__x86_64__)
#pragma clang attribute push(                                                                                          \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c"))), apply_to = function)
#define __AVX512F__ 1
#define MOST 8
#define WORDS 512
#define KIND "AVX-512"
#define KERNELS likely_avx512
#include "kernels.h"
#pragma clang attribute pop
#endif
