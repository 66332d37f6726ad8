// dx: the product of the dy that each pixel was seen by and w turned round. Of KH x KW places a pixel was only seen at
// those whose distance is a multiple of the strides: the same ones for all pixels of a phase, one of every SH x SW.
// So each phase is a product of its own, (images PH PW, places F) times (places F, C), and none multiplies zeros.
// Constants: the geometry as in windows.cuh, F; PH, PW, pixels of a phase; places are STEPH, STEPW apart, and REACHH,
// REACHW pixels of dy; WIDEY, WIDEW, WIDEX, whether dy, w, dx can be read four at a time.
#include "windows.cuh"
#include "tensor_cores.cuh"

// The first k in 0, 1, ... whose distance k * dilation from `offset` is a multiple of the stride, or `size`.
__device__ int first_place(int offset, int stride, int dilation, int step, int size) {
  for (int k = 0; k < step && k < size; k++)
    if ((offset - k * dilation) % stride == 0) return k;
  return size;
}

struct Phase {
  int images, py, px, ky0, kx0, high, wide;  // first place, and how many
  __device__ Phase(int images, int phase) : images(images), py(phase / SW), px(phase % SW) {
    ky0 = first_place(py + TOP, SH, DH, STEPH, KH), kx0 = first_place(px + LEFT, SW, DW, STEPW, KW);
    high = (KH - ky0 + STEPH - 1) / STEPH, wide = (KW - kx0 + STEPW - 1) / STEPW;
  }
};

struct Seeing : Phase {
  __device__ Spot row(int pixel) const {
    const int image = pixel / (PW * PH), x = (pixel % PW * SW + px + LEFT - kx0 * DW) / SW;
    const int y = (pixel / PW % PH * SH + py + TOP - ky0 * DH) / SH;
    return {((image * OH + y) * OW + x) * F, image < images ? y : -(1 << 30), x};
  }
  __device__ Spot depth(int k) const {
    const int f = k % F, i = k / F, x = i % wide * REACHW, ky = i / wide, y = ky * REACHH;
    return {f - (y * OW + x) * F, ky < high ? -y : -(1 << 29), -x};
  }
  __device__ int at(Spot row, Spot depth) const {
    const bool inside = (unsigned)(row.y + depth.y) < OH && (unsigned)(row.x + depth.x) < OW;
    return inside ? row.at + depth.at : -1;
  }
};

struct Filters : Phase {
  __device__ int row(int c) const { return c < C ? c * F : OUTSIDE; }
  __device__ int depth(int k) const {
    const int f = k % F, i = k / F, kx = kx0 + i % wide * STEPW, ky = ky0 + i / wide * STEPH;
    return ky < KH ? (ky * KW + kx) * (C * F) + f : OUTSIDE;
  }
  __device__ int at(int row, int depth) const { return row + depth; }
};

extern "C" __global__ void __launch_bounds__(WORKERS, RESIDENT)
conv2d_grad_input(const float* dy, const float* w, float* dx, int images, float* partial, unsigned* tickets) {
  const Phase phase(images, blockIdx.x % (SH * SW));
  auto store = [=](int pixel, int c, float4 values) {
    const int x = pixel % PW * SW + phase.px, y = pixel / PW % PH * SH + phase.py, image = pixel / (PW * PH);
    if (image < images && x < W && y < H) store_four(dx, ((image * H + y) * W + x) * C + c, values, C - c, WIDEX);
  };
  product<true, true>(blockIdx.x / (SH * SW) * TILE_M, blockIdx.y * TILE_N, phase.high * phase.wide * F, dy, WIDEY,
                      Seeing{phase}, w, WIDEW, Filters{phase}, partial, tickets, store);
}
