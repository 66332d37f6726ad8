// Activations, and what follows a matrix product.

extern "C" __global__ void leaky_relu(const T* x, T* y, T slope, int n) {
  FOR_EACH(i, n);
  y[i] = leaky(x[i], slope);
}

extern "C" __global__ void leaky_relu_grad(const T* dy, const T* y, T* dx, T slope, int n) {
  FOR_EACH(i, n);
  dx[i] = y[i] > 0 ? dy[i] : slope * dy[i];
}

extern "C" __global__ void elu(const T* x, T* y, T alpha, int n) {
  FOR_EACH(i, n);
  y[i] = x[i] > 0 ? x[i] : alpha * expm1(x[i]);
}

extern "C" __global__ void elu_grad(const T* dy, const T* x, const T* y, T* dx, T alpha, int n) {
  FOR_EACH(i, n);
  dx[i] = x[i] > 0 ? dy[i] : dy[i] * (y[i] + alpha);
}

// y += b by column, then leaky ReLU if `activate`; b may be null.
extern "C" __global__ void bias_activation(T* y, const T* b, T slope, bool activate, int n, int columns) {
  FOR_EACH(i, n);
  T v = y[i];
  if (b) v += b[i % columns];
  y[i] = activate ? leaky(v, slope) : v;
}
