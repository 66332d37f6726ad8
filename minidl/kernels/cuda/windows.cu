// Columns of a convolution, and pooling. Every gradient is gathered by the pixel that it belongs to, so nothing is
// added by two threads at once and the order of sums is fixed.
#include "windows.cuh"

// Row r of the columns is what output pixel r sees: KH * KW * C numbers. `images` is how many there are.
extern "C" __global__ void im2col(const T* x, T* columns, int images) {
  FOR_EACH(i, images * (OH * OW * KH * KW * C));
  const int at = seen(window(images, i / (KH * KW * C)), within(i % (KH * KW * C)));
  columns[i] = at < 0 ? T(0) : x[at];
}

// Each window that looks at pixel (iy, ix), and from which of its places: visit(ky, kx, oy, ox).
template <class Visit>
__device__ void for_windows_at(int iy, int ix, Visit visit) {
  for (int ky = 0; ky < KH; ky++) {
    const int y = iy + TOP - ky * DH, oy = y / SH;
    if (y < 0 || y % SH || oy >= OH) continue;
    for (int kx = 0; kx < KW; kx++) {
      const int z = ix + LEFT - kx * DW, ox = z / SW;
      if (z >= 0 && z % SW == 0 && ox < OW) visit(ky, kx, oy, ox);
    }
  }
}

// The transpose: each pixel adds up the places of the columns that were read from it.
extern "C" __global__ void col2im(const T* columns, T* x, int images) {
  FOR_EACH(i, images * (H * W * C));
  const int c = i % C, ix = i / C % W, iy = i / (C * W) % H, image = i / (C * W * H);
  T sum = 0;
  for_windows_at(iy, ix, [&](int ky, int kx, int oy, int ox) {
    sum += columns[((((image * OH + oy) * OW + ox) * KH + ky) * KW + kx) * C + c];
  });
  x[i] = sum;
}

// Largest value of each window, and its offset ky * KW + kx; of equal ones the first. A nan is largest.
extern "C" __global__ void max_pool(const T* x, T* y, I* where, int images) {
  FOR_EACH(i, images * (OH * OW * C));
  const int c = i % C, ox = i / C % OW, oy = i / (C * OW) % OH, image = i / (C * OW * OH);
  T best = log(T(0));  // -inf, for which the run-time compiler has no name
  int offset = 0;
  for (int ky = 0; ky < KH; ky++)
    for (int kx = 0; kx < KW; kx++) {
      const int ix = ox * SW + kx - LEFT, iy = oy * SH + ky - TOP;
      if (ix < 0 || ix >= W || iy < 0 || iy >= H) continue;
      const T v = x[((image * H + iy) * W + ix) * C + c];
      if (v > best) offset = ky * KW + kx;
      if (v > best || v != v) best = v;
    }
  y[i] = best;
  where[i] = offset;
}

extern "C" __global__ void max_pool_grad(const T* dy, const I* where, T* dx, int images) {
  FOR_EACH(i, images * (H * W * C));
  const int c = i % C, ix = i / C % W, iy = i / (C * W) % H, image = i / (C * W * H);
  T sum = 0;
  for_windows_at(iy, ix, [&](int ky, int kx, int oy, int ox) {
    const int o = ((image * OH + oy) * OW + ox) * C + c;
    if (where[o] == ky * KW + kx) sum += dy[o];
  });
  dx[i] = sum;
}

// How many pixels a window averages, along one side.
__device__ int averaged(int o, int kernel, int stride, int before, int size, bool count_pads) {
  const int start = o * stride - before;
  return count_pads ? kernel : min(start + kernel, size) - max(start, 0);
}

// Mean of each window; padding counts as zeros if `count_pads`, else not at all.
extern "C" __global__ void avg_pool(const T* x, T* y, bool count_pads, int images) {
  FOR_EACH(i, images * (OH * OW * C));
  const int c = i % C, ox = i / C % OW, oy = i / (C * OW) % OH, image = i / (C * OW * OH);
  T sum = 0;
  for (int ky = 0; ky < KH; ky++)
    for (int kx = 0; kx < KW; kx++) {
      const int ix = ox * SW + kx - LEFT, iy = oy * SH + ky - TOP;
      if (ix >= 0 && ix < W && iy >= 0 && iy < H) sum += x[((image * H + iy) * W + ix) * C + c];
    }
  y[i] = sum / T(averaged(oy, KH, SH, TOP, H, count_pads) * averaged(ox, KW, SW, LEFT, W, count_pads));
}

extern "C" __global__ void avg_pool_grad(const T* dy, T* dx, bool count_pads, int images) {
  FOR_EACH(i, images * (H * W * C));
  const int c = i % C, ix = i / C % W, iy = i / (C * W) % H, image = i / (C * W * H);
  T sum = 0;
  for_windows_at(iy, ix, [&](int ky, int kx, int oy, int ox) {
    const int pixels = averaged(oy, KH, SH, TOP, H, count_pads) * averaged(ox, KW, SW, LEFT, W, count_pads);
    sum += dy[((image * OH + oy) * OW + ox) * C + c] / T(pixels);
  });
  dx[i] = sum;
}
