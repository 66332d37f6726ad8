// What several kernels share. T is float or double; sizes with names in capitals are constants of the compilation.

#define THREADS 256

// One thread for each of n numbers: i is this thread's.
#define FOR_EACH(i, n)                                    \
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x; \
  if (i >= (unsigned)(n)) return

// Leaky ReLU; nan stays nan, and a slope of 0 makes no nan of -inf.
template <class Number>
__device__ Number leaky(Number v, Number slope) {
  return v > 0 ? v : slope != 0 ? slope * v : v == v ? Number(0) : v;
}

// Whether this block is the last of so many to arrive here: it sees what the others have written, unless it looks into
// a cache of its own. The ticket is zero before and after.
__device__ bool finished_last(unsigned* ticket, unsigned blocks) {
  bool last = false;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    last = atomicAdd(ticket, 1u) == blocks - 1;
    if (last) *ticket = 0;
  }
  return __syncthreads_or(last);
}

#define COLUMNS 32  // of a matrix that a thread block sums up, at most: what a warp reads at once

// How the host lays out sums over the rows of a matrix (rows, columns): grid (tiles of columns, splits of rows).
// Neighbouring threads take neighbouring columns; the block takes several rows at once, in lanes.
// Each split leaves its sums in `partial`; the split that finishes last adds them up, always in the same order,
// so that the result does not depend on timing. `tickets` count finished splits and are left at zero.
// `add(row, column, sums)` adds a row's terms. True in the one thread of each column that has the total.
template <int Q, class Add>
__device__ bool column_sums(int rows, int columns, double* partial, unsigned* tickets, double (&total)[Q],
                            int& column, Add add) {
  __shared__ double sums[Q][THREADS];
  const int t = threadIdx.x, width = min(columns, COLUMNS), lanes = THREADS / width, lane = t / width;
  column = blockIdx.x * width + t % width;
  const int share = (rows + gridDim.y - 1) / gridDim.y, begin = blockIdx.y * share, end = min(rows, begin + share);
  const bool busy = lane < lanes && column < columns, mine = t < width && column < columns;
  auto add_lanes = [&] {  // the totals of a column's threads, in the first of them
    for (int q = 0; q < Q; q++) sums[q][t] = total[q];
    __syncthreads();
    if (mine)
      for (int q = 0; q < Q; q++)
        for (int k = 1; k < lanes; k++) total[q] += sums[q][k * width + t];
  };
  for (int q = 0; q < Q; q++) total[q] = 0;
  if (busy) {
    int row = begin + lane;
    for (; row + 7 * lanes < end; row += 8 * lanes)  // whose numbers are all on their way at the same time
#pragma unroll
      for (int i = 0; i < 8; i++) add(row + i * lanes, column, total);
    for (; row < end; row += lanes) add(row, column, total);
  }
  add_lanes();
  if (gridDim.y == 1) return mine;
  if (mine)
    for (int q = 0; q < Q; q++) partial[(blockIdx.y * Q + q) * columns + column] = total[q];
  if (!finished_last(&tickets[blockIdx.x], gridDim.y)) return false;
  for (int q = 0; q < Q; q++) total[q] = 0;
  if (busy) {
    const int splits = gridDim.y;
    for (int split = lane; split < splits; split += 8 * lanes) {
      double parts[8][Q];
#pragma unroll
      for (int i = 0; i < 8; i++)
        for (int q = 0; q < Q; q++) {  // from no cache of this block
          const int at = split + i * lanes;
          parts[i][q] = at < splits ? __ldcg(&partial[(at * Q + q) * columns + column]) : 0;
        }
#pragma unroll
      for (int i = 0; i < 8; i++)
        for (int q = 0; q < Q; q++) total[q] += parts[i][q];
    }
  }
  add_lanes();
  return mine;
}
