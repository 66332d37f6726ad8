// The running averages of a training loop. LANES threads take a row, 1 or 32.

// Whether a is larger; nan is largest, as for argmax.
__device__ bool larger(T a, T b) { return a > b || (a != a && b == b); }

// sums[0] += rows * loss, sums[1] += how many rows have their largest number, the first of equal ones, at the label.
// `counts` = {blocks that have finished, hits that they have found}, zeros before and after; whole numbers have the same
// sum in any order.
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
