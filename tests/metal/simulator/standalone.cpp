// Runs a kernel's library without Python, libc or an operating system's headers: `_start` dispatches it on counting numbers
// and writes the output's bytes. For machines that only an emulator is at hand for.
#include "runtime.h"

extern "C" {
struct Request {
  void* const* buffers;
  unsigned char *stacks, *arena;
  unsigned long stack_size, arena_size;
  unsigned grid[3], threadgroup[3];
  void* check;
};
int msl_launch(const Request*);

enum { LANES = 128, STACK = 65536, ARENA = 65536 };
alignas(64) static unsigned char stacks[LANES * STACK], arena[ARENA];
alignas(64) static float input[LANES * 2], output[LANES * 2];

void* memset(void* at, int value, unsigned long n) {
  for (unsigned long i = 0; i < n; i++) ((volatile unsigned char*)at)[i] = (unsigned char)value;
  return at;
}

static long call(long number, long a, long b, long c) {
#if defined(__aarch64__)
  register long x8 asm("x8") = number, x0 asm("x0") = a, x1 asm("x1") = b, x2 asm("x2") = c;
  asm volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
  return x0;
#else
  long result;
  asm volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
  return result;
#endif
}

__attribute__((force_align_arg_pointer)) void _start() {
#if defined(__aarch64__)
  const long write = 64, leave = 93;
#else
  const long write = 1, leave = 60;
#endif
  for (int i = 0; i < LANES * 2; i++) input[i] = float(i);
  void* buffers[] = {input, output};
  Request request = {buffers, stacks, arena, STACK, ARENA, {LANES * 2, 1, 1}, {LANES, 1, 1}, nullptr};
  const int used = msl_launch(&request);
  call(write, 1, (long)output, sizeof output);
  call(leave, used == 4 * LANES ? 0 : 1, 0, 0);
}
}
