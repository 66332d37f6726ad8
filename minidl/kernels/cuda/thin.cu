// The product of a matrix of few rows and a large one, which is read once: THIN_ROWS, how many, is a constant.

// y (THIN_ROWS, columns) = a (THIN_ROWS, rows) b (rows, columns).
extern "C" __global__ void __launch_bounds__(THREADS)
thin_product(const T* a, const T* b, T* y, int rows, int columns, double* partial, unsigned* tickets) {
  double total[THIN_ROWS];
  int c;
  auto add = [&](int row, int column, double* sums) {
    const double v = b[(size_t)row * columns + column];
#pragma unroll
    for (int m = 0; m < THIN_ROWS; m++) sums[m] += a[m * rows + row] * v;
  };
  if (column_sums(rows, columns, partial, tickets, total, c, add))
    for (int m = 0; m < THIN_ROWS; m++) y[m * columns + c] = total[m];
}
