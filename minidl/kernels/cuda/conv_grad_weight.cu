// dw: the product of what each output pixel saw, transposed (KH KW C, images OH OW), and dy (images OH OW, F).
// Constants: the geometry as in windows.cuh, F; WIDEX, WIDEY, WIDEW, whether x, dy, dw can be read four at a time.
#include "windows.cuh"
#include "tensor_cores.cuh"

struct Windows {
  int images;
  __device__ Spot row(int k) const { return within(k); }
  __device__ Spot depth(int pixel) const { return window(images, pixel); }
  __device__ int at(Spot row, Spot depth) const { return seen(depth, row); }
};

struct Gradients {
  int pixels;
  __device__ int row(int f) const { return f < F ? f : OUTSIDE; }
  __device__ int depth(int pixel) const { return pixel < pixels ? pixel * F : OUTSIDE; }
  __device__ int at(int row, int depth) const { return row + depth; }
};

extern "C" __global__ void __launch_bounds__(WORKERS, RESIDENT)
conv2d_grad_weight(const float* dy, const float* x, float* dw, int images, float* partial, unsigned* tickets) {
  auto store = [=](int k, int f, float4 values) {
    if (k < KH * KW * C) store_four(dw, k * F + f, values, F - f, WIDEW);
  };
  const int pixels = images * (OH * OW);
  product<false, false>(blockIdx.x * TILE_M, blockIdx.y * TILE_N, pixels, x, WIDEX, Windows{images}, dy, WIDEY,
                        Gradients{pixels}, partial, tickets, store);
}
