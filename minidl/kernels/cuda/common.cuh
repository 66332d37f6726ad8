// What several kernels share. T is float or double; sizes with names in capitals are constants of the compilation.

#define THREADS 256

// One thread for each of n numbers: i is this thread's.
#define FOR_EACH(i, n)                                    \
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x; \
  if (i >= (unsigned)(n)) return

// How the host lays out sums over the rows of a matrix (rows, columns): grid (tiles of columns, splits of rows).
// Neighbouring threads take neighbouring columns; narrow matrices give a thread block several rows at once.
// Each split leaves its sums in `partial`; the split that finishes last adds them up, always in the same order,
// so that the result does not depend on timing. `tickets` count finished splits and are left at zero.
// `add(row, column, sums)` adds a row's terms. True in the one thread of each column that has the total.
template <int Q, class Add>
__device__ bool column_sums(int rows, int columns, double* partial, unsigned* tickets, double (&total)[Q],
                            int& column, Add add) {
  __shared__ double sums[Q][THREADS];
  __shared__ bool last;
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
  __threadfence();
  __syncthreads();
  if (t == 0) {
    last = atomicAdd(&tickets[blockIdx.x], 1u) == gridDim.y - 1;
    if (last) tickets[blockIdx.x] = 0;
  }
  __syncthreads();
  if (!last || !mine) return false;
  const volatile double* parts = partial;  // written by other blocks: not from a cache of this one
  for (int q = 0; q < Q; q++) {
    total[q] = 0;
    for (int split = 0; split < (int)gridDim.y; split++) total[q] += parts[(split * Q + q) * columns + column];
  }
  return true;
}
