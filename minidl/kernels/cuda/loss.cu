// Softmax cross-entropy of class numbers, and the running averages of loss and accuracy.

#define WARPS (THREADS / 32)

__device__ T warp_max(T v) {
  for (int distance = 16; distance; distance /= 2) v = max(v, __shfl_xor_sync(0xffffffffu, v, distance));
  return v;
}

__device__ T warp_sum(T v) {
  for (int distance = 16; distance; distance /= 2) v += __shfl_xor_sync(0xffffffffu, v, distance);
  return v;
}

// A warp takes a row: loss and softmax. If `total` is wanted, the block that finishes last adds up all losses,
// always in the same order, and divides by `divisor`.
extern "C" __global__ void __launch_bounds__(THREADS)
cross_entropy(const T* x, const long long* labels, T* losses, T* p, T* total, double divisor, int rows, int columns,
              unsigned* tickets) {
  __shared__ double sums[THREADS];
  const int t = threadIdx.x, lane = t % 32, row = blockIdx.x * WARPS + t / 32;
  if (row < rows) {  // the same for a whole warp
    const T* z = x + (size_t)row * columns;
    T* q = p + (size_t)row * columns;
    T highest = z[0];
    for (int c = lane; c < columns; c += 32) highest = max(highest, z[c]);
    highest = warp_max(highest);
    T sum = 0;
    for (int c = lane; c < columns; c += 32) {
      q[c] = exp(z[c] - highest);
      sum += q[c];
    }
    sum = warp_sum(sum);
    for (int c = lane; c < columns; c += 32) q[c] /= sum;
    if (lane == 0) losses[row] = log(sum) - (z[labels[row]] - highest);
  }
  if (!total || !finished_last(tickets, gridDim.x)) return;
  const volatile T* all = losses;
  sums[t] = 0;
  for (int i = t; i < rows; i += THREADS) sums[t] += all[i];
  for (int half = THREADS / 2; half; half /= 2) {
    __syncthreads();
    if (t < half) sums[t] += sums[t + half];
  }
  if (t == 0) *total = sums[0] / divisor;
}

// dx = (p - 1 at the label) dlosses / divisor; `stride` 0 means that all losses have one gradient.
extern "C" __global__ void cross_entropy_grad(const T* p, const long long* labels, const T* dlosses, T* dx, T divisor,
                                              int stride, int n, int columns) {
  FOR_EACH(i, n);
  const int row = i / columns, column = i % columns;
  dx[i] = (p[i] - (column == labels[row] ? T(1) : T(0))) * (dlosses[row * stride] / divisor);
}
