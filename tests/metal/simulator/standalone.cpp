// Runs a kernel's library without Python, libc or an operating system's headers: `_start` dispatches it on counting
// numbers and writes the output's bytes. For machines that only an emulator is at hand for.
#include "runtime.h"

extern "C" {
#include "../standalone.h"

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

START void _start() {
  for (int i = 0; i < LANES * 2; i++) input[i] = float(i);
  void* buffers[] = {input, output};
  Request request = {buffers, stacks, arena, STACK, ARENA, {LANES * 2, 1, 1}, {LANES, 1, 1}, nullptr};
  const int used = msl_launch(&request);
  call(WRITE, 1, (long)output, sizeof output);
  call(LEAVE, used == 4 * LANES ? 0 : 1, 0, 0);
}
}
