// Update rules on flat buffers, one launch for the whole model. Rate and step are given by value, or, where the
// pointer beside them is not null, read from memory: a captured graph then follows schedules and counts on.

#define FOR_ALL(i, n) for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < (unsigned)(n); i += gridDim.x * blockDim.x)

// velocity may be null: then there is no momentum.
extern "C" __global__ void sgd(T* p, const T* g, T* velocity, double lr_given, const double* lr_at, T momentum,
                               bool nesterov, T decay, int n) {
  const T lr = lr_at ? *lr_at : lr_given;
  FOR_ALL(i, n) {
    T step = g[i];
    if (decay != 0) step += decay * p[i];
    if (velocity) {
      const T v = momentum * velocity[i] + step;
      velocity[i] = v;
      step = nesterov ? step + momentum * v : v;
    }
    p[i] -= lr * step;
  }
}

extern "C" __global__ void adam(T* p, const T* g, T* mean, T* square, double lr_given, const double* lr_at,
                                double log_beta1, double log_beta2, T beta1, T beta2, T rest1, T rest2, T eps,
                                long long step_given, const long long* step_at, T decay, bool decoupled, int n) {
  const double lr = lr_at ? *lr_at : lr_given, step = step_given + (step_at ? *step_at : 0);
  const T rate = lr / -expm1(step * log_beta1), root = 1 / sqrt(-expm1(step * log_beta2));  // 1 - beta^step, exactly
  const T shrink = decoupled ? 1 - lr * decay : 1, coupled = decoupled ? T(0) : decay;
  FOR_ALL(i, n) {
    T old = p[i], grad = g[i];
    if (coupled != 0) grad += coupled * old;
    old *= shrink;
    const T m = beta1 * mean[i] + rest1 * grad, s = beta2 * square[i] + rest2 * (grad * grad);
    mean[i] = m;
    square[i] = s;
    p[i] = old - rate * m / (sqrt(s) * root + eps);
  }
}

// velocity may be null: then there is no momentum.
extern "C" __global__ void rmsprop(T* p, const T* g, T* square, T* velocity, double lr_given, const double* lr_at, T rho,
                                   T rest, T eps, T momentum, T decay, int n) {
  const T lr = lr_at ? *lr_at : lr_given;
  FOR_ALL(i, n) {
    T grad = g[i];
    if (decay != 0) grad += decay * p[i];
    const T s = rho * square[i] + rest * (grad * grad);
    square[i] = s;
    T update = grad / (sqrt(s) + eps);
    if (velocity) {
      update = momentum * velocity[i] + update;
      velocity[i] = update;
    }
    p[i] -= lr * update;
  }
}
