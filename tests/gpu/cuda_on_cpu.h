// CUDA C for g++: enough of it to run the kernels on the CPU, thread block after thread block.
//
// Kernels without barriers run as loops. In the others each CUDA thread is a fiber of its own (ucontext), so that
// __syncthreads and shuffles are real: all fibers of a block, or of a warp, must arrive before one goes on. A barrier
// that not all reach ends the program. A warp runs as far as it can before the next one begins, from the first warp to
// the last in one block and from the last to the first in the next: what lacks a barrier reads old numbers.
// Time, memory coalescing and all other races are not modelled.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <setjmp.h>
#include <ucontext.h>
#include <vector>

struct Triple {
  unsigned x, y, z;
};
static Triple threadIdx, blockIdx, blockDim, gridDim;

#define __global__
#define __device__ inline
#define __shared__ static
#define __launch_bounds__(...)
#define ON_CPU 1

using std::exp;
using std::expm1;
using std::log;
using std::sqrt;
template <class T> static T min(T a, T b) { return a < b ? a : b; }
template <class T> static T max(T a, T b) { return a > b ? a : b; }
static float rsqrt(float x) { return 1 / std::sqrt(x); }
static unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned long long)(((unsigned __int128)a * b) >> 64);
}
static unsigned atomicAdd(unsigned* place, unsigned value) {
  const unsigned old = *place;
  *place += value;
  return old;
}
static void __threadfence() {}
static unsigned __float_as_uint(float v) {
  unsigned bits;
  memcpy(&bits, &v, 4);
  return bits;
}
static float __uint_as_float(unsigned bits) {
  float v;
  memcpy(&v, &bits, 4);
  return v;
}
template <class T> static T __ldcg(const T* p) { return *p; }
struct alignas(16) float4 {
  float x, y, z, w;
};

enum State { READY, AT_WARP_BARRIER, AT_BLOCK_BARRIER, DONE };
struct Fiber {
  ucontext_t start;
  jmp_buf place;  // where it goes on: jumps are quicker than contexts, which ask the system
  bool started;
  State state;
};
static const size_t STACK = 1 << 16;
static std::vector<Fiber> fibers;
static std::vector<char> stacks;
static std::function<void()> body;
static jmp_buf scheduler;
static int current;
static unsigned long long exchanged[1024];

// Copies that a thread has begun, and how many groups of them it has ended.
struct Copy {
  void* to;
  const float* from;
  int at, bytes, group;
};
static std::vector<Copy> copies[1024];
static int groups_of[1024];

static void fiber_main() {
  body();
  fibers[current].state = DONE;
  _longjmp(scheduler, 1);
}
static void wait(State state) {
  fibers[current].state = state;
  if (!_setjmp(fibers[current].place)) _longjmp(scheduler, 1);
}
__attribute__((noinline)) static void resume(int t) {
  current = t;
  threadIdx = {(unsigned)t, 0, 0};
  if (_setjmp(scheduler)) return;
  if (fibers[t].started) _longjmp(fibers[t].place, 1);
  fibers[t].started = true;
  setcontext(&fibers[t].start);
}
static void __syncthreads() { wait(AT_BLOCK_BARRIER); }
static int __syncthreads_or(int vote) {
  static int votes;
  if (vote) votes = 1;
  __syncthreads();
  const int result = votes;
  __syncthreads();
  votes = 0;
  __syncthreads();
  return result;
}
template <class T> static T from_lane(T value, int lane) {
  const int me = current;
  memcpy(&exchanged[me], &value, sizeof value);
  wait(AT_WARP_BARRIER);
  T result;
  memcpy(&result, &exchanged[(me & ~31) | lane], sizeof result);
  wait(AT_WARP_BARRIER);
  return result;
}
template <class T> static T __shfl_xor_sync(unsigned, T value, int mask) {
  return from_lane(value, (current & 31) ^ mask);
}

// A warp until its fibers are done or at a barrier of the block.
static void run_warp(int first, int end) {
  for (;;) {
    int alive = 0, waiting = 0;
    for (int t = first; t < end; t++) {
      if (fibers[t].state == READY) resume(t);
      alive += fibers[t].state != DONE;
      waiting += fibers[t].state == AT_WARP_BARRIER;
    }
    if (!waiting) return;
    if (waiting < alive) break;
    for (int t = first; t < end; t++)
      if (fibers[t].state == AT_WARP_BARRIER) fibers[t].state = READY;
  }
  fprintf(stderr, "a barrier that not all threads of a warp of block %u, %u reach\n", blockIdx.x, blockIdx.y);
  abort();
}

// One thread block of fibers, until all are done.
static void run_block(int threads, bool backwards) {
  for (int t = 0; t < threads; t++) {
    Fiber& fiber = fibers[t];
    getcontext(&fiber.start);
    fiber.start.uc_stack.ss_sp = &stacks[STACK * t];
    fiber.start.uc_stack.ss_size = STACK;
    fiber.started = false;
    fiber.state = READY;
    copies[t].clear();
    groups_of[t] = 0;
    makecontext(&fiber.start, fiber_main, 0);
  }
  const int warps = (threads + 31) / 32;
  for (;;) {
    for (int i = 0; i < warps; i++) {
      const int warp = backwards ? warps - 1 - i : i;
      run_warp(warp * 32, min(warp * 32 + 32, threads));
    }
    int alive = 0, waiting = 0;
    for (auto& fiber : fibers) alive += fiber.state != DONE, waiting += fiber.state == AT_BLOCK_BARRIER;
    if (!alive) return;
    if (waiting < alive) break;
    for (auto& fiber : fibers) fiber.state = READY;
  }
  fprintf(stderr, "a barrier that not all threads of block %u, %u reach\n", blockIdx.x, blockIdx.y);
  abort();
}

template <class Body>
static void launch(unsigned gx, unsigned gy, unsigned gz, unsigned threads, bool barriers, Body kernel) {
  gridDim = {gx, gy, gz};
  blockDim = {threads, 1, 1};
  if (barriers) {
    body = kernel;
    fibers.resize(threads);
    stacks.resize(STACK * threads);
  }
  for (unsigned block = 0; block < gx * gy * gz; block++) {
    blockIdx = {block % gx, block / gx % gy, block / (gx * gy)};
    if (barriers) {
      run_block(threads, block % 2);
    } else {
      for (unsigned t = 0; t < threads; t++) {
        threadIdx = {t, 0, 0};
        kernel();
      }
    }
  }
}

// mma.sync.m16n8k8 by the documented places of the fragments. Of its factors it reads the upper 19 bits, as TF32 has.
// Each warp has two sets of factors, which take turns, so that one barrier is enough.
struct Factors {
  float a[16][8], b[8][8];  // rows of A, columns of B
};
static Factors factors[32][2];
static unsigned turns[1024];
static float upper_bits(float v) { return __uint_as_float(__float_as_uint(v) & 0xffffe000u); }
static void multiply_fragments(float (&d)[4], const float (&a)[4], const float (&b)[2]) {
  const int me = current, group = (me & 31) >> 2, member = me & 3;
  Factors& warp = factors[me >> 5][turns[me]++ & 1];
  for (int e = 0; e < 4; e++) warp.a[group + (e & 1) * 8][member + (e >> 1) * 4] = upper_bits(a[e]);
  for (int e = 0; e < 2; e++) warp.b[group][member + e * 4] = upper_bits(b[e]);
  wait(AT_WARP_BARRIER);
  for (int e = 0; e < 4; e++) {
    const float *row = warp.a[group + (e >> 1) * 8], *column = warp.b[member * 2 + (e & 1)];
    for (int k = 0; k < 8; k++) d[e] += row[k] * column[k];
  }
}
// cp.async: what a thread begins to copy arrives when it waits for it, not before.
static void copy_four(float4* to, const float* from, int at) { copies[current].push_back({to, from, at, 16, groups_of[current]}); }
static void copy_one(float* to, const float* from, int at) { copies[current].push_back({to, from, at, 4, groups_of[current]}); }
static void end_group() { groups_of[current]++; }
template <int groups> static void wait_for_all_but() {
  std::vector<Copy>& mine = copies[current];
  size_t done = 0;
  for (; done < mine.size() && mine[done].group < groups_of[current] - groups; done++) {
    const Copy& copy = mine[done];
    if (copy.at < 0)
      memset(copy.to, 0, copy.bytes);
    else if (copy.bytes == 16)
      *(float4*)copy.to = *(const float4*)(copy.from + copy.at);
    else
      *(float*)copy.to = copy.from[copy.at];
  }
  mine.erase(mine.begin(), mine.begin() + done);
}
