// dw: the product of what each output pixel saw, transposed (KH KW C, images OH OW), and dy (images OH OW, F).
// Constants: the geometry as in windows.cuh, F; WIDEX, WIDEY, whether x and dy can be read four at a time.
#include "tensor_cores.cuh"
#include "windows.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, 2)
conv2d_grad_weight(const float* dy, const float* x, float* dw, int images, float* partial, unsigned* tickets) {
  const int pixels = images * (OH * OW);
  auto windows = [=](int k, int pixel) { return seen(images, pixel, k); };
  auto gradients = [=](int f, int pixel) { return pixel < pixels && f < F ? pixel * F + f : -1; };
  auto store = [=](int k, int f, float v) {
    if (k < KH * KW * C && f < F) dw[k * F + f] = v;
  };
  product<false, false>(blockIdx.x * TILE_M, blockIdx.y * TILE_N, pixels, x, WIDEX, windows, dy, WIDEY, gradients,
                        partial, tickets, store);
}
