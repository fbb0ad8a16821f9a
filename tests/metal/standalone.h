/* What a program needs that runs without libc or an operating system's headers: on x86-64 and aarch64 Linux. */

void *memset(void *at, int value, unsigned long n) {
    for (unsigned long i = 0; i < n; i++)
        ((volatile unsigned char *)at)[i] = (unsigned char)value;
    return at;
}

void *memcpy(void *to, const void *from, unsigned long n) {
    for (unsigned long i = 0; i < n; i++)
        ((volatile unsigned char *)to)[i] = ((const unsigned char *)from)[i];
    return to;
}

#if defined(__aarch64__)
enum { WRITE = 64, LEAVE = 93 };
#define START
#else
enum { WRITE = 1, LEAVE = 60 };
#define START __attribute__((force_align_arg_pointer))
#endif

static long call(long number, long a, long b, long c) {
#if defined(__aarch64__)
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
    return x0;
#else
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
#endif
}
