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
  __shared__ bool last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    last = atomicAdd(ticket, 1u) == blocks - 1;
    if (last) *ticket = 0;
  }
  __syncthreads();
  return last;
}

// How the host lays out sums over the rows of a matrix (rows, columns): grid (tiles of columns, splits of rows).
// Neighbouring threads take neighbouring columns; narrow matrices give a thread block several rows at once.
// Each split leaves its sums in `partial`; the split that finishes last adds them up, always in the same order,
// so that the result does not depend on timing. `tickets` count finished splits and are left at zero.
// `add(row, column, sums)` adds a row's terms. True in the one thread of each column that has the total.
template <int Q, class Add>
__device__ bool column_sums(int rows, int columns, double* partial, unsigned* tickets, double (&total)[Q],
                            int& column, Add add) {
  __shared__ double sums[Q][THREADS];
  const int t = threadIdx.x, width = min(columns, THREADS), lanes = THREADS / width, lane = t / width;
  column = blockIdx.x * width + t % width;
  const int share = (rows + gridDim.y - 1) / gridDim.y, begin = blockIdx.y * share, end = min(rows, begin + share);
  for (int q = 0; q < Q; q++) total[q] = 0;
  if (lane < lanes && column < columns)
    for (int row = begin + lane; row < end; row += lanes) add(row, column, total);
  for (int q = 0; q < Q; q++) sums[q][t] = total[q];
  __syncthreads();
  const bool mine = t < width && column < columns;
  if (mine)
    for (int q = 0; q < Q; q++) {
      total[q] = 0;
      for (int k = 0; k < lanes; k++) total[q] += sums[q][k * width + t];
    }
  if (gridDim.y == 1) return mine;
  if (mine)
    for (int q = 0; q < Q; q++) partial[(blockIdx.y * Q + q) * columns + column] = total[q];
  if (!finished_last(&tickets[blockIdx.x], gridDim.y) || !mine) return false;
  const volatile double* parts = partial;  // written by other blocks: not from a cache of this one
  for (int q = 0; q < Q; q++) {
    total[q] = 0;
    for (int split = 0; split < (int)gridDim.y; split++) total[q] += parts[(split * Q + q) * columns + column];
  }
  return true;
}
