// dx: the product of the dy that each pixel was seen by and w turned round. Of KH x KW places a pixel was only seen at
// those whose distance is a multiple of the strides: the same ones for all pixels of a phase, one of every SH x SW.
// So each phase is a product of its own, (images PH PW, places F) times (places F, C), and none multiplies zeros.
// Constants: the geometry as in windows.cuh, F; PH, PW, pixels of a phase; places are STEPH, STEPW apart, and REACHH,
// REACHW pixels of dy; WIDEY, WIDEW, whether dy and w can be read four at a time.
#include "tensor_cores.cuh"

// The first k in 0, 1, ... whose distance k * dilation from `offset` is a multiple of the stride, or `size`.
__device__ int first_place(int offset, int stride, int dilation, int step, int size) {
  for (int k = 0; k < step && k < size; k++)
    if ((offset - k * dilation) % stride == 0) return k;
  return size;
}

extern "C" __global__ void __launch_bounds__(THREADS, 2)
conv2d_grad_input(const float* dy, const float* w, float* dx, int images, float* partial, unsigned* tickets) {
  const int phase = blockIdx.x % (SH * SW), py = phase / SW, px = phase % SW;
  const int ky0 = first_place(py + TOP, SH, DH, STEPH, KH), kx0 = first_place(px + LEFT, SW, DW, STEPW, KW);
  const int high = (KH - ky0 + STEPH - 1) / STEPH, wide = (KW - kx0 + STEPW - 1) / STEPW;  // places
  const int pixels = images * (PH * PW);
  auto seeing = [=](int pixel, int k) {
    const int f = k % F, i = k / F, kx = i % wide, ky = i / wide;
    const int ix = pixel % PW * SW + px, iy = pixel / PW % PH * SH + py, image = pixel / (PW * PH);
    const int ox = (ix + LEFT - kx0 * DW) / SW - kx * REACHW, oy = (iy + TOP - ky0 * DH) / SH - ky * REACHH;
    const bool inside = pixel < pixels && ky < high && ox >= 0 && ox < OW && oy >= 0 && oy < OH;
    return inside ? ((image * OH + oy) * OW + ox) * F + f : -1;
  };
  auto filters = [=](int c, int k) {
    const int f = k % F, i = k / F, kx = kx0 + i % wide * STEPW, ky = ky0 + i / wide * STEPH;
    return ky < KH && c < C ? ((ky * KW + kx) * C + c) * F + f : -1;
  };
  auto store = [=](int pixel, int c, float v) {
    const int ix = pixel % PW * SW + px, iy = pixel / PW % PH * SH + py, image = pixel / (PW * PH);
    if (pixel < pixels && ix < W && iy < H && c < C) dx[((image * H + iy) * W + ix) * C + c] = v;
  };
  product<true, true>(blockIdx.x / (SH * SW) * TILE_M, blockIdx.y * TILE_N, high * wide * F, dy, WIDEY, seeing, w, WIDEW,
                      filters, partial, tickets, store);
}
