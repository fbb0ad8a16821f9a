// The scheduler: one fiber a lane, in lock-step at collectives and barriers, one threadgroup after another, on one
// thread. Freestanding: no C or C++ library. The checked build adds check.cpp's shadow memory through the calls named
// check_*.
#include "runtime.h"

#include "check.h"

extern "C" {
msl_world msl;
// The generated entry: calls the kernel with the buffers and the current lane's attributes.
MSL_HIDDEN void msl_kernel();
MSL_HIDDEN void msl_switch(void** save, void* to);
MSL_HIDDEN void msl_start();
}

// One call frame of a lane that has not run yet: msl_switch pops it and returns into msl_start.
#if defined(__x86_64__)
enum { FRAME = 7 };
asm(R"(
  .text
  .globl msl_switch
  .hidden msl_switch
msl_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");
static void* first_frame(unsigned char* top) {
  void** sp = (void**)top - 1;  // a function expects rsp = 8 (mod 16) at its entry
  *sp = nullptr;
  *--sp = (void*)msl_start;
  for (int i = 0; i < FRAME - 1; i++) *--sp = nullptr;
  return sp;
}
#elif defined(__aarch64__)
enum { FRAME = 20 };
#ifdef __APPLE__
#define SYMBOL "_msl_switch"
#define HIDE ".private_extern " SYMBOL
#else
#define SYMBOL "msl_switch"
#define HIDE ".hidden " SYMBOL
#endif
asm("  .text\n  .globl " SYMBOL "\n  " HIDE "\n  .p2align 2\n" SYMBOL ":\n" R"(
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
)");
static void* first_frame(unsigned char* top) {
  void** sp = (void**)top - FRAME;
  for (int i = 0; i < FRAME; i++) sp[i] = nullptr;
  sp[11] = (void*)msl_start;  // x30
  return sp;
}
#else
#error "the lanes' stack switch is written for x86-64 and arm64"
#endif

enum { MAX_LANES = 1024 };
static msl_lane lanes[MAX_LANES];
static msl_simdgroup groups[MAX_LANES / 32];
static void* host;  // the stack that called msl_launch
static unsigned char* stacks;
static unsigned long stack_size;
static bool aborted;
enum { MAX_SLOTS = 64 };
static void** slots[MAX_SLOTS];  // of the threadgroup variables met in this dispatch
static int slots_used;

static msl_simdgroup& group_of(const msl_lane& lane) { return groups[lane.index >> 5]; }
static msl_u32 bit_of(const msl_lane& lane) { return 1u << (lane.index & 31); }

static void go(void** save, msl_lane& next) {
  msl.current = &next;
  if (save != &next.stack_pointer) msl_switch(save, next.stack_pointer);
}

// Which of the waiting lanes go on together: those at the textually first site, for there the lanes of a loop that
// others have left catch up with them.
static msl_u32 pick(msl_simdgroup& g, int base) {
  const msl_site* first = nullptr;
  msl_u32 together = 0;
  for (msl_u32 left = g.waiting; left; left &= left - 1) {
    const int i = __builtin_ctz(left);
    const msl_site* s = (const msl_site*)lanes[base + i].site;
    if (s == first) {
      together |= 1u << i;
    } else if (!first || s->line < first->line || (s->line == first->line && s->column < first->column)) {
      first = s;
      together = 1u << i;
    }
  }
  return together;
}

static bool one_site(msl_u32 mask, int base) {
  const void* site = lanes[base + __builtin_ctz(mask)].site;
  for (; mask; mask &= mask - 1)
    if (lanes[base + __builtin_ctz(mask)].site != site) return false;
  return true;
}

// Bring one simdgroup, none of whose lanes can run, past its next collective; false if it stands at a barrier or is
// done.
static bool resolve(msl_simdgroup& g, int base) {
  if (!g.waiting) return false;
  const msl_u32 together = g.waiting == g.live && one_site(g.waiting, base) ? g.waiting : pick(g, base);
  msl_lane& lane = lanes[base + __builtin_ctz(together)];
  check_collective(lane, g, together);
  if (lane.combine) lane.combine(g.payload, together);
  g.waiting &= ~together;
  g.runnable |= together;
  return true;
}

// All lanes stand at a barrier or have returned. False when all have returned.
static bool release() {
  bool any = false;
  for (msl_u32 i = 0; i < msl.simdgroups; i++) any = any || groups[i].at_barrier;
  if (!any) return false;
  check_barrier(lanes, groups);
  for (msl_u32 i = 0; i < msl.simdgroups; i++) {
    groups[i].runnable |= groups[i].at_barrier;
    groups[i].at_barrier = 0;
  }
  return true;
}

// Leave the current lane (its state is already set) for the next that can run.
static void leave(void** save, msl_u32 simdgroup) {
  if (aborted) {
    msl_switch(save, host);
    return;
  }
  for (msl_u32 tried = 0;;) {
    msl_simdgroup& g = groups[simdgroup];
    if (g.runnable || resolve(g, simdgroup * 32)) {
      const int i = __builtin_ctz(g.runnable);
      g.runnable &= g.runnable - 1;
      go(save, lanes[simdgroup * 32 + i]);
      return;
    }
    simdgroup = simdgroup + 1 == msl.simdgroups ? 0 : simdgroup + 1;
    if (++tried == msl.simdgroups) {
      if (!release()) {
        msl_switch(save, host);
        return;
      }
      tried = 0;
      simdgroup = 0;
    }
  }
}

extern "C" {

void msl_collective(const void* site, msl_u32 kind, void* payload, msl_combine combine) {
  msl_lane& me = *msl.current;
  msl_simdgroup& g = group_of(me);
  me.site = site;
  me.kind = kind;
  me.combine = combine;
  g.payload[me.index & 31] = payload;
  g.waiting |= bit_of(me);
  leave(&me.stack_pointer, me.index >> 5);
}

void msl_simd_barrier(const void* site, msl_u32 flags) {
  msl.current->flags = flags;
  msl_collective(site, MSL_SIMD_BARRIER, nullptr, nullptr);
}

void msl_barrier(const void* site, msl_u32 flags) {
  msl_lane& me = *msl.current;
  me.site = site;
  me.flags = flags;
  group_of(me).at_barrier |= bit_of(me);
  leave(&me.stack_pointer, me.index >> 5);
}

void msl_start() {
  msl_kernel();
  msl_lane& me = *msl.current;
  group_of(me).live &= ~bit_of(me);
  leave(&me.stack_pointer, me.index >> 5);
  __builtin_trap();
}

void msl_abort() {
  aborted = true;
  msl_lane& me = *msl.current;
  msl_switch(&me.stack_pointer, host);
}

void* msl_allot(void** slot, unsigned long size, unsigned long align, const char* name, const char* file, int line) {
  if (align < 16) align = 16;
  msl_u32 at = (msl.arena_used + MSL_RED_ZONE + align - 1) / align * align;
  if (at + size + MSL_RED_ZONE > msl.arena_size) msl_abort();
  if (slots_used == MAX_SLOTS) msl_abort();
  slots[slots_used++] = slot;
  msl.arena_used = at + size;
  *slot = msl.arena + at;
  __builtin_memset(*slot, 0xff, size);
  check_allot(*slot, size, name, file, line);
  return *slot;
}

// What Python passes; the layout is mirrored in launch.py.
struct msl_request {
  void* const* buffers;
  unsigned char *stacks, *arena;
  unsigned long stack_size, arena_size;
  msl_u32 grid[3], threadgroup[3];
  void* check;
};

__attribute__((visibility("default"))) int msl_launch(const msl_request* r) {
  aborted = false;
  stacks = r->stacks;
  stack_size = r->stack_size;
  msl.arena = r->arena;
  msl.arena_size = r->arena_size;
  msl.buffers = r->buffers;
  for (int d = 0; d < 3; d++) {
    msl.grid[d] = r->grid[d];
    msl.threadgroup[d] = r->threadgroup[d] < r->grid[d] ? r->threadgroup[d] : r->grid[d];
    msl.threadgroups[d] = (r->grid[d] + msl.threadgroup[d] - 1) / msl.threadgroup[d];
  }
  while (slots_used) *slots[--slots_used] = nullptr;
  msl.arena_used = 0;
  check_begin(r->check, stacks, stack_size * MAX_LANES);
  msl_u32* at = msl.group;
  for (at[2] = 0; at[2] < msl.threadgroups[2] && !aborted; at[2]++)
    for (at[1] = 0; at[1] < msl.threadgroups[1] && !aborted; at[1]++)
      for (at[0] = 0; at[0] < msl.threadgroups[0] && !aborted; at[0]++) {
        for (int d = 0; d < 3; d++) {
          const msl_u32 left = msl.grid[d] - at[d] * msl.threadgroup[d];
          msl.group_size[d] = left < msl.threadgroup[d] ? left : msl.threadgroup[d];
        }
        msl.lanes = msl.group_size[0] * msl.group_size[1] * msl.group_size[2];
        msl.simdgroups = (msl.lanes + 31) / 32;
        __builtin_memset(msl.arena, 0xff, msl.arena_used);  // NaN in every float type
        check_threadgroup();
        for (msl_u32 i = 0; i < msl.lanes; i++) {
          msl_lane& lane = lanes[i];
          // Stacks start at different offsets, or the lanes' frames would all fall into the same cache sets.
          lane.stack_pointer = first_frame(stacks + (i + 1) * stack_size - (i % 61) * 320);
          lane.index = i;
          lane.position[0] = i % msl.group_size[0];
          lane.position[1] = i / msl.group_size[0] % msl.group_size[1];
          lane.position[2] = i / (msl.group_size[0] * msl.group_size[1]);
        }
        for (msl_u32 i = 0; i < msl.simdgroups; i++) {
          const msl_u32 n = msl.lanes - i * 32;
          groups[i].live = n >= 32 ? 0xffffffffu : (1u << n) - 1;
          groups[i].runnable = groups[i].live;
          groups[i].waiting = groups[i].at_barrier = 0;
        }
        leave(&host, 0);
      }
  msl.current = nullptr;
  check_end();
  return aborted ? -1 : int(msl.arena_used);
}

#ifndef __AVX512BF16__
// Rounds to nearest even; the compiler calls it for every operation on bfloat.
MSL_HIDDEN __bf16 __truncsfbf2(float x) {
  unsigned int u = __builtin_bit_cast(unsigned int, x);
  unsigned short r = x != x ? (unsigned short)((u >> 16) | 0x40)
                            : (unsigned short)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
  return __builtin_bit_cast(__bf16, r);
}
#endif
}
