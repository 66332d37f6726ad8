// The next batch from a data set that lives on the device, and the clock of a captured step.
// S is the type of a sample's numbers, R that of the batch, L that of the targets; PIXELS is 1 where 0..255 become 0..1.

// rows order[first], order[first + 1], ... of x (N, width) and y (N, target_width). clock = {step, updates} and
// rate are what the graph that follows reads; they come by value, so that no transfer is needed.
extern "C" __global__ void next_batch(const S* x, const L* y, const long long* order, R* batch, L* targets,
                                      long long first, int rows, int width, int target_width, long long* clock,
                                      double* rate, long long step, double lr) {
  const int column = blockIdx.x * blockDim.x + threadIdx.x;
  if (column == 0 && blockIdx.y == 0) {
    *clock = step;
    *rate = lr;
  }
  for (int row = blockIdx.y; row < rows; row += gridDim.y) {
    const long long from = order[first + row];
    if (column < width) {
      const S v = x[from * width + column];
      batch[(long long)row * width + column] = PIXELS ? R(v) * R(1.0 / 255) : R(v);
    }
    if (column < target_width) targets[(long long)row * target_width + column] = y[from * target_width + column];
  }
}
