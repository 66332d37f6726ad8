// Dropout whose random numbers are a function of (seed, stream, step, call, index): Philox4x64-10, the numbers
// that NumPy draws on the CPU. The step may be read from memory, so that a captured graph draws anew at each replay.

typedef unsigned long long u64;

__device__ void philox4x64(u64 (&c)[4], u64 k0, u64 k1) {
  for (int round = 0; round < 10; round++) {
    const u64 m0 = 0xD2E7470EE14C6C93ULL, m1 = 0xCA5A826395121157ULL;
    const u64 high0 = __umul64hi(m0, c[0]), low0 = m0 * c[0], high1 = __umul64hi(m1, c[2]), low1 = m1 * c[2];
    const u64 a = high1 ^ c[1] ^ k0, b = high0 ^ c[3] ^ k1;
    c[0] = a, c[1] = low1, c[2] = b, c[3] = low0;
    k0 += 0x9E3779B97F4A7C15ULL, k1 += 0xBB67AE8584CAA73BULL;
  }
}

struct alignas(16) Eight {
  T numbers[8];
};
struct alignas(8) EightKept {
  bool flags[8];
};

// A thread draws one block, eight 32-bit numbers; a number is kept if its own is below `threshold`.
extern "C" __global__ void dropout(const T* x, T* y, bool* mask, u64 seed, u64 stream, u64 step, const long long* step_at,
                                   u64 call, unsigned threshold, T scale, int n) {
  FOR_EACH(block, (n + 7) / 8);
  u64 c[4] = {block + 1ULL, step + (step_at ? (u64)*step_at : 0), call, 0};
  const int first = block * 8;
  const bool whole = first + 8 <= n && (size_t)x % 16 == 0;  // y and mask begin where memory was taken
  Eight v = {};
  if (whole)
    v = *(const Eight*)(x + first);
  else
    for (int j = 0; j < 8; j++) v.numbers[j] = first + j < n ? x[first + j] : T(0);
  philox4x64(c, seed, stream);
  EightKept kept;
#pragma unroll
  for (int j = 0; j < 8; j++) {
    kept.flags[j] = (unsigned)(c[j / 2] >> (j % 2 * 32)) < threshold;
    v.numbers[j] = kept.flags[j] ? v.numbers[j] * scale : T(0);
  }
  if (whole) {
    *(Eight*)(y + first) = v;
    *(EightKept*)(mask + first) = kept;
    return;
  }
  for (int j = 0; j < 8 && first + j < n; j++) y[first + j] = v.numbers[j], mask[first + j] = kept.flags[j];
}

extern "C" __global__ void dropout_grad(const T* dy, const bool* mask, T* dx, T scale, int n) {
  FOR_EACH(i, n);
  dx[i] = mask[i] ? dy[i] * scale : T(0);
}
