// The checked build: a shadow of every byte that a kernel can reach, fed by the compiler's memory hooks
// (AddressSanitizer's outlined calls, which places.py turns into those at the end of this file) and by the scheduler. A
// race is two accesses of one byte by different lanes, one of them a write, with no barrier between them whose memory
// flags cover that memory.
#include "check.h"

#ifdef MSL_CHECKED

typedef unsigned char byte;
typedef unsigned long u64;
typedef msl_u32 u32;

enum { DEVICE = 0, THREADGROUP = 1, SPACES = 2 };
// Of a writer: it wrote atomically; other lanes did too, and no barrier has parted them.
enum { MANY = 0xffffffffu, ATOMIC = 1u << 31, SHARED = 1u << 30 };

// The last write and the reads since, of one byte. Lanes count from 1, threadgroups from 1; 0 is never.
struct Cell {
  u32 writer, written_by_group, write_epoch, write_simd_epoch;
  u32 read_by_group, read_epoch, read_simd_epoch, reader_simdgroup;
  u32 reader_simdgroups, reader_lanes;  // masks; lanes of `reader_simdgroup`
  u32 plainly_read;                     // one of the reads was no atomic one
};

// The records below are mirrored in report.py.
struct Region {
  byte* base;
  u64 size;
  byte* touched;  // one a byte: 1 read, 2 written
  Cell* cells;    // of an output; null for an input
  u64 initialised, bytes_read, bytes_written;
};
struct Variable {
  const char *name, *file;
  byte* base;
  u64 size, line;
};
struct Fault {
  const char *kind, *file, *callers;
  u64 line, count;
  long region, offset, size, value;  // region: -1 - i for variable i of the threadgroup
  u32 lane, other_lane, group[3], pad;
};
enum { MAX_REGIONS = 64, MAX_VARIABLES = 64, MAX_FAULTS = 64 };
struct State {
  u64 regions, variables, faults, threadgroup_bytes;
  u64 collectives[MSL_KINDS], barriers, exponentials, threadgroup_read, threadgroup_written;
  Region region[MAX_REGIONS];
  Variable variable[MAX_VARIABLES];
  Fault fault[MAX_FAULTS];
  u64 threadgroup_limit;
};

static State* state;
static u32 group_id;                      // of the threadgroup that runs, from 1
static u32 epoch[SPACES];                 // counts barriers over the whole dispatch
static u32 simd_epoch[SPACES][32];
static Cell cells[1 << 16];               // of the arena; a red zone's cells are never used
static unsigned long stacks_at, stacks_size;
enum { STACKS = 1 << 27 };                // bytes, at most
static byte vacant[STACKS / 8];           // a bit for each byte of the lanes' stacks: a variable that has no value yet

extern "C" {
extern MSL_HIDDEN char __ehdr_start[] __attribute__((weak));
extern MSL_HIDDEN char _end[] __attribute__((weak));
MSL_HIDDEN u64 msl_exponentials;
}

static u32 lane_id() { return msl.current ? msl.current->index + 1 : 0; }

static Fault* report(const char* kind, const msl_site& at, long region = 0, long offset = 0, long size = 0,
                     long value = 0) {
  for (u64 i = 0; i < state->faults; i++) {
    Fault& f = state->fault[i];
    if (f.kind == kind && f.file == at.file && f.line == at.line && f.region == region) {
      f.count++;
      return nullptr;
    }
  }
  if (state->faults == MAX_FAULTS) return nullptr;
  Fault& f = state->fault[state->faults++];
  __builtin_memset(&f, 0, sizeof f);
  f.kind = kind;
  f.file = at.file;
  f.callers = at.function;
  f.line = at.line;
  f.value = value;
  f.count = 1;
  f.region = region;
  f.offset = offset;
  f.size = size;
  f.lane = lane_id();
  for (int d = 0; d < 3; d++) f.group[d] = msl.group[d];
  return &f;
}

// At the place of a call of MSL's own, whose function's name says nothing about callers.
static void report_at(const void* site, const char* kind, long value) {
  const msl_site* s = (const msl_site*)site;
  report(kind, {s->file, "", s->line, 0}, 0, 0, 0, value);
}

// Whether an access that a cell remembers, of a lane of this group and simdgroup, is ordered before one of the current
// lane.
static bool ordered(u32 group, u32 at_epoch, u32 at_simd_epoch, u32 simdgroup, int space) {
  if (group != group_id) return false;
  if (at_epoch != epoch[space]) return true;
  const u32 mine = msl.current->index >> 5;
  return simdgroup == mine && at_simd_epoch != simd_epoch[space][mine];
}

enum { READ = 0, WRITE = 1, BOTH = 2 };
struct Access { int order; bool atomic; };

// The kind of fault that the access is, or null; and the cell brought up to date.
static const char* touch(Cell& c, int space, Access how, bool initialised, u32& other) {
  const bool write = how.order != READ, read = how.order != WRITE, atomic = how.atomic;
  const u32 me = lane_id(), index = me - 1, simdgroup = index >> 5, bit = 1u << (index & 31);
  const char* kind = nullptr;
  if (space == THREADGROUP && c.written_by_group != group_id) c.writer = 0;
  if (space == THREADGROUP && c.read_by_group != group_id) c.read_by_group = 0;
  const u32 writer = c.writer & ~(ATOMIC | SHARED);
  if (read && !writer && !initialised) kind = "uninitialised-read";
  const bool apart =
      writer && !ordered(c.written_by_group, c.write_epoch, c.write_simd_epoch, (writer - 1) >> 5, space);
  const bool alone_wrote = writer == me && c.written_by_group == group_id && !(c.writer & SHARED);
  const bool shared = apart && atomic && (c.writer & ATOMIC) && !alone_wrote;
  if (apart && !alone_wrote && !shared) {
    kind = write ? "race-write-write" : "race-write-read";
    other = writer;
  }
  if (write && !kind && c.read_by_group) {
    const bool alone = c.read_by_group == group_id && c.reader_simdgroups == 1u << simdgroup &&
                       (c.reader_lanes == bit || c.read_simd_epoch != simd_epoch[space][simdgroup]);
    if (!alone && (c.read_by_group != group_id || c.read_epoch == epoch[space]) && !(atomic && !c.plainly_read)) {
      kind = "race-read-write";
      other = 0;
    }
  }
  if (write) {
    c.writer = me | (atomic ? ATOMIC : 0) | (shared ? SHARED : 0);
    c.written_by_group = group_id;
    c.write_epoch = epoch[space];
    c.write_simd_epoch = simd_epoch[space][simdgroup];
  }
  if (read) {
    if (!c.read_by_group || (c.read_by_group == group_id && c.read_epoch != epoch[space])) {
      c.reader_simdgroups = c.reader_lanes = c.plainly_read = 0;
      c.read_by_group = group_id;
    } else if (c.read_by_group != group_id) {
      c.read_by_group = MANY;
    }
    if (c.reader_simdgroup != simdgroup || c.read_simd_epoch != simd_epoch[space][simdgroup]) c.reader_lanes = 0;
    c.read_epoch = epoch[space];
    c.read_simd_epoch = simd_epoch[space][simdgroup];
    c.reader_simdgroup = simdgroup;
    c.reader_simdgroups |= 1u << simdgroup;
    c.reader_lanes |= bit;
    c.plainly_read |= !atomic;
  }
  return kind;
}

static void touch_all(Cell* c, u64 size, int space, Access how, bool initialised, const msl_site& at, long region,
                      long offset) {
  const char* kind = nullptr;
  u32 other = 0;
  long first = 0;
  for (u64 i = 0; i < size; i++) {
    u32 who = 0;
    const char* k = touch(c[i], space, how, initialised, who);
    if (k && !kind) {
      kind = k;
      other = who;
      first = long(i);
    }
  }
  if (!kind) return;
  Fault* f = report(kind, at, region, offset + first, long(size));
  if (f) f->other_lane = other;
}

static bool in_module(u64 address) {
  if (__ehdr_start && _end) return address >= (u64)__ehdr_start && address < (u64)_end;
  const u64 near = (u64)&msl;  // no linker symbols: whatever lies within 16 MiB of our own data
  return address - (near - (16 << 20)) < (32 << 20);
}

static void out_of_bounds(u64 address, u64 size, Access how, const msl_site& at) {
  // Name the nearest buffer: the one whose end or start is closest.
  long nearest = 0;
  u64 best = ~0ul;
  for (u64 i = 0; i < state->regions; i++) {
    const Region& r = state->region[i];
    if (!r.base) continue;
    const u64 base = (u64)r.base, d = address < base ? base - address : address - (base + r.size);
    if (d < best) {
      best = d;
      nearest = long(i);
    }
  }
  report(how.order != READ ? "out-of-bounds-write" : "out-of-bounds-read", at, nearest,
         long(address - (u64)state->region[nearest].base), long(size));
  msl_abort();
}

static void threadgroup_access(u64 offset, u64 size, Access how, const msl_site& at) {
  byte* address = msl.arena + offset;
  for (u64 i = 0; i < state->variables; i++) {
    const Variable& v = state->variable[i];
    if (address >= v.base && address + size <= v.base + v.size) {
      if (how.order != READ) state->threadgroup_written += size;
      if (how.order != WRITE) state->threadgroup_read += size;
      touch_all(cells + offset, size, THREADGROUP, how, false, at, -1 - long(i), address - v.base);
      return;
    }
  }
  long nearest = 0;
  u64 best = ~0ul;
  for (u64 i = 0; i < state->variables; i++) {
    const Variable& v = state->variable[i];
    const u64 d = address < v.base ? u64(v.base - address) : u64(address + size - (v.base + v.size));
    if (d < best) {
      best = d;
      nearest = long(i);
    }
  }
  report(how.order != READ ? "out-of-bounds-write" : "out-of-bounds-read", at, -1 - nearest,
         address - state->variable[nearest].base, long(size));
  msl_abort();
}

static bool on_stack(u64 address) { return address - stacks_at < stacks_size; }

// Marks the bytes of a lane's variable as without a value, or with one.
static void mark(u64 address, u64 size, bool empty) {
  for (u64 i = address - stacks_at; i < address - stacks_at + size; i++) {
    if (empty) vacant[i / 8] |= byte(1u << (i % 8));
    else vacant[i / 8] &= byte(~(1u << (i % 8)));
  }
}

static bool is_vacant(u64 address) {
  const u64 i = address - stacks_at;
  return (vacant[i / 8] >> (i % 8)) & 1;
}

// A lane's own memory: it has a value where something was written since the variable was declared.
static void own_access(u64 address, u64 size, Access how, const msl_site& at) {
  if (how.order == WRITE) {
    mark(address, size, false);
    return;
  }
  for (u64 i = 0; i < size; i++)
    if (!is_vacant(address + i)) return;  // padding, or a component, beside what has one
  report("uninitialised-local", at, 0, 0, long(size));
  mark(address, size, false);  // once
}

static void access(u64 address, u64 size, Access how, const msl_site& at) {
  if (on_stack(address)) {
    own_access(address, size, how, at);
    return;
  }
  if (address - (u64)msl.arena < msl.arena_size) {
    threadgroup_access(address - (u64)msl.arena, size, how, at);
    return;
  }
  for (u64 i = 0; i < state->regions; i++) {
    Region& r = state->region[i];
    const u64 offset = address - (u64)r.base;
    if (offset >= r.size || size > r.size - offset) continue;
    if (how.order != READ && !r.cells) {
      report("write-to-input", at, long(i), long(offset), long(size));
      msl_abort();
    }
    if (how.order != READ) r.bytes_written += size;
    if (how.order != WRITE) r.bytes_read += size;
    const byte mark = byte(how.order + 1);  // 1 read, 2 written, 3 both
    for (u64 b = 0; b < size; b++) r.touched[offset + b] |= mark;
    if (r.cells) touch_all(r.cells + offset, size, DEVICE, how, r.initialised, at, long(i), long(offset));
    return;
  }
  if (!in_module(address)) out_of_bounds(address, size, how, at);
}

// ---- told by the scheduler ----
void check_begin(void* given, unsigned char* stacks, unsigned long size) {
  state = (State*)given;
  stacks_at = (unsigned long)stacks;
  stacks_size = size;
  group_id = 0;
  epoch[DEVICE] = epoch[THREADGROUP] = 1;
  __builtin_memset(cells, 0, sizeof cells);
  msl_exponentials = 0;
}

void check_end() { state->exponentials = msl_exponentials; }

void check_threadgroup() {
  group_id++;
  epoch[DEVICE]++;
  epoch[THREADGROUP]++;
}

void check_allot(void* at, unsigned long size, const char* name, const char* file, int line) {
  if (state->variables == MAX_VARIABLES) msl_abort();
  Variable& v = state->variable[state->variables++];
  v = {name, file, (byte*)at, size, u64(line)};
  state->threadgroup_bytes += size;
  if (state->threadgroup_bytes > state->threadgroup_limit) {
    report("threadgroup-memory", {file, "", u32(line), 0}, -long(state->variables), 0, long(state->threadgroup_bytes));
    msl_abort();
  }
}

void check_collective(const msl_lane& lane, const msl_simdgroup& g, msl_u32 together) {
  state->collectives[lane.kind]++;
  u32 missing = g.live & ~together;
  if (lane.kind == MSL_QUAD_REDUCE || lane.kind == MSL_QUAD_SHUFFLE) {
    u32 partial = 0;  // a quad may stay away, but not a part of one
    for (int q = 0; q < 32; q += 4)
      if ((together >> q) & 0xf) partial |= 0xfu << q;
    missing &= partial;
  }
  if (missing && lane.kind != MSL_VOTE) report_at(lane.site, "divergent-simd", long(together));
  if (lane.kind == MSL_MATRIX && together != 0xffffffffu) report_at(lane.site, "divergent-simd", long(together));
  if (lane.kind == MSL_SIMD_BARRIER)
    for (int space = 0; space < SPACES; space++)
      if (lane.flags & (space == DEVICE ? 1u : 2u)) simd_epoch[space][lane.index >> 5]++;
}

void check_barrier(const msl_lane* lanes, const msl_simdgroup* groups) {
  const msl_site *first = nullptr, *other = nullptr;
  u32 flags = 3, arrived = 0;
  for (u32 i = 0; i < msl.lanes; i++) {
    if (!((groups[i >> 5].at_barrier >> (i & 31)) & 1)) continue;
    const msl_site* site = (const msl_site*)lanes[i].site;
    if (!first) first = site;
    if (site != first) other = site;
    flags &= lanes[i].flags;
    arrived++;
  }
  if (other) report_at(first->line < other->line ? first : other, "divergent-barrier", long(msl.lanes));
  if (arrived != msl.lanes) report_at(first, "divergent-barrier", long(arrived));
  state->barriers += msl.simdgroups;
  if (flags & 1) epoch[DEVICE]++;
  if (flags & 2) epoch[THREADGROUP]++;
}

// ---- told by the kernel ----
extern "C" {
void msl_fault(const void* site, const char* kind, long value) { report_at(site, kind, value); }
void msl_atomic(const void* site, const volatile void* address, unsigned long size, int order) {
  const msl_site* s = (const msl_site*)site;
  access((u64)address, size, {order, true}, {s->file, "", s->line, 0});
}

// The hooks, as places.py has rewritten them.
// `align`: what the instruction relies on.
static void check_alignment(u64 at, u64 align, const msl_site* site) {
  if (!(at & (align - 1))) return;
  report("misaligned", *site, 0, 0, 0, long(at & (align - 1)));
  msl_abort();
}
MSL_HIDDEN void msl_load(u64 at, u64 size, u64 align, const msl_site* site) {
  check_alignment(at, align, site);
  access(at, size, {READ, false}, *site);
}
// Of a vector, one component of which is about to be replaced.
MSL_HIDDEN void msl_load_part(u64 at, u64 size, u64 align, const msl_site* site) {
  if (on_stack(at)) mark(at, size, false);
  msl_load(at, size, align, site);
}
MSL_HIDDEN void msl_store(u64 at, u64 size, u64 align, const msl_site* site) {
  check_alignment(at, align, site);
  access(at, size, {WRITE, false}, *site);
}
// The pattern of a variable that has no value yet.
MSL_HIDDEN void msl_fill(u64 at, u64 size, u64, const msl_site*) {
  if (on_stack(at)) mark(at, size, true);
}
MSL_HIDDEN void* msl_vacate(void* at, int pattern, u64 size, const msl_site*) {
  if (on_stack((u64)at)) mark((u64)at, size, true);
  return __builtin_memset(at, pattern, size);
}
// Copies take along what has no value: the padding of a struct never has one.
static void check_copy(u64 to, u64 from, u64 size, const msl_site* site) {
  if (!on_stack(from)) access(from, size, {READ, false}, *site);
  access(to, size, {WRITE, false}, *site);
  for (u64 i = 0; on_stack(from) && on_stack(to) && i < size; i++)
    if (is_vacant(from + i)) mark(to + i, 1, true);
}
MSL_HIDDEN void* msl_memcpy(void* to, const void* from, u64 size, const msl_site* site) {
  check_copy((u64)to, (u64)from, size, site);
  return __builtin_memcpy(to, from, size);
}
MSL_HIDDEN void* msl_memmove(void* to, const void* from, u64 size, const msl_site* site) {
  check_copy((u64)to, (u64)from, size, site);
  return __builtin_memmove(to, from, size);
}
MSL_HIDDEN void* msl_memset(void* to, int value, u64 size, const msl_site* site) {
  access((u64)to, size, {WRITE, false}, *site);
  return __builtin_memset(to, value, size);
}
MSL_HIDDEN void __asan_handle_no_return() {}

// The compiler's own checks carry their place with them.
struct Source { const char* file; u32 line, column; };
MSL_HIDDEN void __ubsan_handle_out_of_bounds(const Source* at, u64 index) {
  report("array-bounds", {at->file, "", at->line, 0}, 0, 0, 0, long(index));
  msl_abort();
}
MSL_HIDDEN void __ubsan_handle_divrem_overflow(const Source* at, u64, u64) {
  report("divide-by-zero", {at->file, "", at->line, 0});
  msl_abort();
}
MSL_HIDDEN void __ubsan_handle_type_mismatch_v1(const Source* at, u64 pointer) {
  report("misaligned", {at->file, "", at->line, 0}, 0, 0, 0, long(pointer & 63));
  msl_abort();
}
}
#endif  // MSL_CHECKED
