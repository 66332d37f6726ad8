// Windows that slide over images (N, H, W, C).
// Constants: H W C, OH OW, KH KW, SH SW strides, DH DW dilation, TOP LEFT padding.

// Where an output pixel's window begins, or where in a window a number lies: its place in memory, and in the image.
struct Spot {
  int at, y, x;
};

// Of output pixel (n OH + oy) OW + ox.
__device__ Spot window(int images, int pixel) {
  const int ox = pixel % OW, oy = pixel / OW % OH, image = pixel / (OW * OH);
  const int y = oy * SH - TOP, x = ox * SW - LEFT;
  return {((image * H + y) * W + x) * C, image < images ? y : -(1 << 30), x};
}

// Of number (ky KW + kx) C + c of a window.
__device__ Spot within(int k) {
  const int c = k % C, x = k / C % KW * DW, ky = k / (C * KW), y = ky * DH;
  return {(y * W + x) * C + c, ky < KH ? y : 1 << 29, x};
}

// Which number of the images that is, or -1: padding, or past the end.
__device__ int seen(Spot window, Spot within) {
  const bool inside = (unsigned)(window.y + within.y) < H && (unsigned)(window.x + within.x) < W;
  return inside ? window.at + within.at : -1;
}
