// Windows that slide over images (N, H, W, C).
// Constants: H W C, OH OW, KH KW, SH SW strides, DH DW dilation, TOP LEFT padding.

// Which number of x output pixel (n OH + oy) OW + ox has at place (ky KW + kx) C + c of its window, or -1: padding, or
// past the end.
__device__ int seen(int images, int pixel, int k) {
  const int c = k % C, kx = k / C % KW, ky = k / (C * KW);
  const int ox = pixel % OW, oy = pixel / OW % OH, image = pixel / (OW * OH);
  const int ix = ox * SW + kx * DW - LEFT, iy = oy * SH + ky * DH - TOP;
  const bool inside = image < images && ky < KH && ix >= 0 && ix < W && iy >= 0 && iy < H;
  return inside ? ((image * H + iy) * W + ix) * C + c : -1;
}
