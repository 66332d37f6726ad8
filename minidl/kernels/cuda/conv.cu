// y = act(x * w + b): the product of what each output pixel sees, (images OH OW, KH KW C), and w (KH KW C, F).
// Constants: the geometry as in windows.cuh, F; WIDEX, WIDEW, whether x and w can be read four at a time.
#include "tensor_cores.cuh"
#include "windows.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, 2)
conv2d(const float* x, const float* w, const float* b, float* y, float slope, bool activate, int images, float* partial,
       unsigned* tickets) {
  const int pixels = images * (OH * OW);
  auto windows = [=](int pixel, int k) { return seen(images, pixel, k); };
  auto filters = [=](int f, int k) { return k < KH * KW * C && f < F ? k * F + f : -1; };
  auto store = [=](int pixel, int f, float v) {
    if (pixel >= pixels || f >= F) return;
    if (b) v += b[f];
    y[pixel * F + f] = activate ? leaky(v, slope) : v;
  };
  product<true, false>(blockIdx.x * TILE_M, blockIdx.y * TILE_N, KH * KW * C, x, WIDEX, windows, w, WIDEW, filters,
                       partial, tickets, store);
}
