// CUDA C for g++: enough of it to run the kernels on the CPU, thread block after thread block.
//
// Kernels without barriers run as loops. In the others each CUDA thread is a fiber of its own (ucontext), so that
// __syncthreads and shuffles are real: all fibers of a block, or of a warp, must arrive before one goes on. A barrier
// that not all reach ends the program. Time, memory coalescing and races are not modelled.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <ucontext.h>
#include <vector>

struct Triple {
  unsigned x, y, z;
};
static Triple threadIdx, blockIdx, blockDim, gridDim;

#define __global__
#define __device__ static
#define __shared__ static
#define __launch_bounds__(...)
#define SHIM 1

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

enum State { READY, AT_WARP_BARRIER, AT_BLOCK_BARRIER, DONE };
struct Fiber {
  ucontext_t context;
  State state;
};
static const size_t STACK = 1 << 16;
static ucontext_t scheduler;
static std::vector<Fiber> fibers;
static std::vector<char> stacks;
static std::function<void()> body;
static int current;
static unsigned long long exchanged[1024];

static void fiber_main() {
  body();
  fibers[current].state = DONE;
  swapcontext(&fibers[current].context, &scheduler);
}
static void wait(State state) {
  const int me = current;
  fibers[me].state = state;
  swapcontext(&fibers[me].context, &scheduler);
}
static void __syncthreads() { wait(AT_BLOCK_BARRIER); }
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

// One thread block of fibers, until all are done.
static void run_block(int threads) {
  for (int t = 0; t < threads; t++) {
    Fiber& fiber = fibers[t];
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = &stacks[STACK * t];
    fiber.context.uc_stack.ss_size = STACK;
    fiber.context.uc_link = &scheduler;
    fiber.state = READY;
    makecontext(&fiber.context, fiber_main, 0);
  }
  for (;;) {
    bool ran = false;
    for (int t = 0; t < threads; t++)
      if (fibers[t].state == READY) {
        ran = true;
        current = t;
        threadIdx = {(unsigned)t, 0, 0};
        swapcontext(&scheduler, &fibers[t].context);
      }
    if (ran) continue;
    int alive = 0, waiting = 0;
    for (int t = 0; t < threads; t++) alive += fibers[t].state != DONE, waiting += fibers[t].state == AT_BLOCK_BARRIER;
    if (!alive) return;
    bool released = false;
    for (int warp = 0; warp < threads; warp += 32) {
      int here = 0, at = 0;
      for (int t = warp; t < threads && t < warp + 32; t++) here += fibers[t].state != DONE, at += fibers[t].state == AT_WARP_BARRIER;
      if (here && here == at) {
        released = true;
        for (int t = warp; t < threads && t < warp + 32; t++)
          if (fibers[t].state == AT_WARP_BARRIER) fibers[t].state = READY;
      }
    }
    if (!released && alive == waiting) {
      released = true;
      for (auto& fiber : fibers)
        if (fiber.state == AT_BLOCK_BARRIER) fiber.state = READY;
    }
    if (!released) {
      fprintf(stderr, "a barrier that not all threads of block %u, %u reach\n", blockIdx.x, blockIdx.y);
      abort();
    }
  }
}

template <class Body> static void launch(unsigned gx, unsigned gy, unsigned threads, bool barriers, Body kernel) {
  gridDim = {gx, gy, 1};
  blockDim = {threads, 1, 1};
  if (barriers) {
    body = kernel;
    fibers.resize(threads);
    stacks.resize(STACK * threads);
  }
  for (unsigned y = 0; y < gy; y++)
    for (unsigned x = 0; x < gx; x++) {
      blockIdx = {x, y, 0};
      if (barriers) {
        run_block(threads);
      } else {
        for (unsigned t = 0; t < threads; t++) {
          threadIdx = {t, 0, 0};
          kernel();
        }
      }
    }
}

// mma.sync.m16n8k8 by the documented places of the fragments, and the rounding of cvt.rna.tf32.
static float fragments_a[1024][4], fragments_b[1024][2];
static void mma_on_cpu(float* d, const float* a, const float* b) {
  const int me = current, warp = me & ~31, group = (me & 31) >> 2, member = me & 3;
  memcpy(fragments_a[me], a, sizeof fragments_a[me]);
  memcpy(fragments_b[me], b, sizeof fragments_b[me]);
  wait(AT_WARP_BARRIER);
  for (int e = 0; e < 4; e++) {
    const int row = group + (e >> 1) * 8, column = member * 2 + (e & 1);
    float sum = d[e];
    for (int k = 0; k < 8; k++)
      sum += fragments_a[warp + (row & 7) * 4 + (k & 3)][(row >> 3) + (k >> 2) * 2] *
             fragments_b[warp + column * 4 + (k & 3)][k >> 2];
    d[e] = sum;
  }
  wait(AT_WARP_BARRIER);
}
static float tf32_on_cpu(float v) {
  uint32_t bits;
  memcpy(&bits, &v, 4);
  bits = (bits + 0x1000) & 0xffffe000u;
  memcpy(&v, &bits, 4);
  return v;
}
