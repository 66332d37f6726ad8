// Sums over the rows of a matrix, and batch normalisation, which is made of them.

extern "C" __global__ void __launch_bounds__(THREADS)
sum_rows(const T* x, T* sums, int rows, int columns, double* partial, unsigned* tickets) {
  double total[1];
  int c;
  auto add = [&](int row, int column, double* sum) { sum[0] += x[(size_t)row * columns + column]; };
  if (column_sums(rows, columns, partial, tickets, total, c, add)) sums[c] = total[0];
}

// g = dy where y > 0, slope dy elsewhere; db = its sums by column.
extern "C" __global__ void __launch_bounds__(THREADS)
bias_activation_grad(const T* dy, const T* y, T* g, T* db, T slope, int rows, int columns, double* partial,
                     unsigned* tickets) {
  double total[1];
  int c;
  auto add = [&](int row, int column, double* sum) {
    const size_t i = (size_t)row * columns + column;
    const T v = y[i] > 0 ? dy[i] : slope * dy[i];
    g[i] = v;
    sum[0] += v;
  };
  if (column_sums(rows, columns, partial, tickets, total, c, add)) db[c] = total[0];
}

// Mean, biased variance and 1 / sqrt(var + eps) of each column. Deviations from the first row keep their precision
// where the mean is large beside them. Running averages, unless null, move towards the mean and the unbiased variance,
// which is the biased one times `correction`.
extern "C" __global__ void __launch_bounds__(THREADS)
moments(const T* x, T* mean, T* inverse_std, T* running_mean, T* running_var, double eps, T momentum, T correction, int rows,
        int columns, double* partial, unsigned* tickets) {
  double total[2];
  int c;
  auto add = [&](int row, int column, double* sums) {
    const double d = (double)x[(size_t)row * columns + column] - x[column];
    sums[0] += d;
    sums[1] += d * d;
  };
  if (column_sums(rows, columns, partial, tickets, total, c, add)) {
    const double shift = total[0] / rows, spread = total[1] / rows - shift * shift;
    const double var = spread < 0 ? 0 : spread;  // nan stays nan
    const T middle = x[c] + shift;
    mean[c] = middle;
    inverse_std[c] = 1 / sqrt(var + eps);
    if (!running_mean) return;
    running_mean[c] += momentum * (middle - running_mean[c]);
    running_var[c] += momentum * (T(var) * correction - running_var[c]);
  }
}

// y = (x - mean) scale [inverse_std] + beta by column; inverse_std may be null.
extern "C" __global__ void normalise(const T* x, const T* mean, const T* scale, const T* inverse_std, const T* beta,
                                     T* y, int n, int columns) {
  FOR_EACH(i, n);
  const int c = i % columns;
  y[i] = (x[i] - mean[c]) * (inverse_std ? scale[c] * inverse_std[c] : scale[c]) + beta[c];
}

extern "C" __global__ void __launch_bounds__(THREADS)
norm_gradient_sums(const T* dy, const T* x, const T* mean, const T* inverse_std, T* dgamma, T* dbeta, int rows,
                   int columns, double* partial, unsigned* tickets) {
  double total[2];
  int c;
  auto add = [&](int row, int column, double* sums) {
    const size_t i = (size_t)row * columns + column;
    sums[0] += dy[i];
    sums[1] += (double)dy[i] * (x[i] - mean[column]);
  };
  if (column_sums(rows, columns, partial, tickets, total, c, add)) {
    dbeta[c] = total[0];
    dgamma[c] = total[1] * inverse_std[c];
  }
}

// dx = gamma / std (dy - dbeta / rows - normalised dgamma / rows)
extern "C" __global__ void norm_gradient(const T* dy, const T* x, const T* mean, const T* inverse_std,
                                         const T* gamma, const T* dgamma, const T* dbeta, T* dx, int rows,
                                         int columns, int n) {
  FOR_EACH(i, n);
  const int c = i % columns;
  const T normalised = (x[i] - mean[c]) * inverse_std[c];
  dx[i] = (dy[i] - dbeta[c] / rows - normalised * (dgamma[c] / rows)) * (gamma[c] * inverse_std[c]);
}
