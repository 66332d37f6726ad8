// y = act(x * w + b): the product of what each output pixel sees, (images OH OW, KH KW C), and w (KH KW C, F).
// Constants: the geometry as in windows.cuh, F; WIDEX, WIDEW, WIDEY, whether x, w, y can be read four at a time.
#include "windows.cuh"
#include "tensor_cores.cuh"

struct Windows {
  int images;
  __device__ Spot row(int pixel) const { return window(images, pixel); }
  __device__ Spot depth(int k) const { return within(k); }
  __device__ int at(Spot row, Spot depth) const { return seen(row, depth); }
};

struct Filters {
  __device__ int row(int f) const { return f < F ? f : OUTSIDE; }
  __device__ int depth(int k) const { return k < KH * KW * C ? k * F : OUTSIDE; }
  __device__ int at(int row, int depth) const { return row + depth; }
};

extern "C" __global__ void __launch_bounds__(WORKERS, RESIDENT)
conv2d(const float* x, const float* w, const float* b, float* y, float slope, bool activate, int images, float* partial,
       unsigned* tickets) {
  auto store = [=](int pixel, int f, float4 values) {
    if (pixel >= images * (OH * OW)) return;
    float* v = &values.x;
#pragma unroll
    for (int i = 0; i < 4; i++) {
      if (b && f + i < F) v[i] += b[f + i];
      if (activate) v[i] = leaky(v[i], slope);
    }
    store_four(y, pixel * F + f, values, F - f, WIDEY);
  };
  product<true, false>(blockIdx.x * TILE_M, blockIdx.y * TILE_N, KH * KW * C, x, WIDEX, Windows{images}, w, WIDEW,
                       Filters{}, partial, tickets, store);
}
