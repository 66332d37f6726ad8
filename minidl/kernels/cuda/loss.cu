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

// Whether a is larger; nan is largest, as for argmax.
__device__ bool larger(T a, T b) { return a > b || (a != a && b == b); }

// sums[0] += rows * loss, sums[1] += how many rows have their largest number, the first of equal ones, at the label.
// LANES threads take a row, 1 or 32. `counts` = {blocks that have finished, hits that they have found}, zeros before and
// after; whole numbers have the same sum in any order.
extern "C" __global__ void __launch_bounds__(THREADS)
count_hits(const T* outputs, const long long* labels, const T* loss, double* sums, int rows, int columns,
           unsigned* counts) {
  const int lane = threadIdx.x % LANES, row = (blockIdx.x * THREADS + threadIdx.x) / LANES;
  if (row < rows) {  // the same for a whole row
    const T* z = outputs + (size_t)row * columns;
    int best = min(lane, columns - 1);
    for (int c = lane + LANES; c < columns; c += LANES)
      if (larger(z[c], z[best])) best = c;
    for (int distance = LANES / 2; distance; distance /= 2) {
      const int other = __shfl_xor_sync(0xffffffffu, best, distance);
      if (larger(z[other], z[best]) || (other < best && !larger(z[best], z[other]))) best = other;
    }
    if (lane == 0 && best == labels[row]) atomicAdd(&counts[1], 1u);
  }
  if (!finished_last(counts, gridDim.x) || threadIdx.x) return;
  sums[0] += (double)rows * *loss;
  sums[1] += __ldcg(&counts[1]);
  counts[1] = 0;
}
