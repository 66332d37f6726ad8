// A matrix product on tensor cores whose operands are gathered on the way: what "implicit" convolutions are made of.
// Constants: TILE_M, TILE_N, the part of the result that a thread block computes: 64 or 128 by 32, 64 or 128.

#define TILE_K 16  // of the depth, in one step
#define WARPS_N (TILE_N == 128 ? 4 : 2)
#define WARPS_M (THREADS / 32 / WARPS_N)
#define FRAGMENTS_M (TILE_M / WARPS_M / 16)  // of 16 x 8 numbers, in the part of a warp
#define FRAGMENTS_N (TILE_N / WARPS_N / 8)

#ifndef ON_CPU  // where tests bring their own
// To the nearest number with 10 bits of mantissa; without it the tensor cores would cut the others off.
__device__ float to_tf32(float v) {
  unsigned bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(v));
  return __uint_as_float(bits);
}

// d (16, 8) += a (16, 8) b (8, 8), spread over a warp as the PTX manual draws it for mma.m16n8k8.
__device__ void multiply_fragments(float (&d)[4], const float (&a)[4], const float (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])),
        "r"(__float_as_uint(a[3])), "r"(__float_as_uint(b[0])), "r"(__float_as_uint(b[1])));
}
#endif

// ROWS x TILE_K numbers of an operand in shared memory, which are read four at a time: four of the depth if that is how
// they lie next to each other (ALONG_K), else of four rows. Rows are a little apart, so that the 32 numbers which a
// warp reads for a fragment are in 32 banks.
template <int ROWS, bool ALONG_K>
struct Tile {
  static constexpr int QUADS = ROWS * TILE_K / 4, EACH = (QUADS + THREADS - 1) / THREADS;  // for each thread
  static constexpr int PITCH = ALONG_K ? TILE_K + 4 : ROWS + 8;
  float4 numbers[(ALONG_K ? ROWS : TILE_K) * PITCH / 4];

  static __device__ int row(int quad) { return ALONG_K ? quad / (TILE_K / 4) : quad % (ROWS / 4) * 4; }
  static __device__ int k(int quad) { return ALONG_K ? quad % (TILE_K / 4) * 4 : quad / (ROWS / 4); }

  // This thread's quads. `place(row, k)` is where in `from` a number lies, or negative for a zero. `wide` tells that
  // the four of a quad lie side by side or are all zero, at an address that can be read at once.
  template <class Place>
  static __device__ void fetch(float4 (&quads)[EACH], int row0, int k0, const float* from, bool wide, Place place) {
#pragma unroll
    for (int i = 0; i < EACH; i++) {
      const int quad = threadIdx.x + i * THREADS, r = row0 + row(quad), c = k0 + k(quad);
      quads[i] = {0, 0, 0, 0};
      if (QUADS < THREADS && quad >= QUADS) continue;
      if (wide) {
        const int at = place(r, c);
        if (at >= 0) quads[i] = *(const float4*)(from + at);
      } else {
        float* numbers = &quads[i].x;
#pragma unroll
        for (int j = 0; j < 4; j++) {
          const int at = ALONG_K ? place(r, c + j) : place(r + j, c);
          if (at >= 0) numbers[j] = from[at];
        }
      }
    }
  }

  __device__ void put(const float4 (&quads)[EACH]) {
#pragma unroll
    for (int i = 0; i < EACH; i++) {
      const int quad = threadIdx.x + i * THREADS;
      if (QUADS < THREADS && quad >= QUADS) continue;
      const int at = ALONG_K ? row(quad) * PITCH + k(quad) : k(quad) * PITCH + row(quad);
      const float4 v = quads[i];
      numbers[at / 4] = {to_tf32(v.x), to_tf32(v.y), to_tf32(v.z), to_tf32(v.w)};
    }
  }

  __device__ float at(int row, int k) const {
    return ((const float*)numbers)[ALONG_K ? row * PITCH + k : k * PITCH + row];
  }
};

// A (., depth) times B (depth, .): the tile of the result at (row0, column0), each number given to
// `store(row, column, value)`. `place_a(row, k)` and `place_b(column, k)` are places in a and b as above, negative
// outside of the matrices.
//
// While a step is multiplied out of shared memory, the next one is on its way to registers. Blocks with the same x and
// y share the depth: each leaves its sums in `partial`, and the one that finishes last adds them up, always in the same
// order.
template <bool A_ALONG_K, bool B_ALONG_K, class PlaceA, class PlaceB, class Store>
__device__ void product(int row0, int column0, int depth, const float* a, bool wide_a, PlaceA place_a, const float* b,
                        bool wide_b, PlaceB place_b, float* partial, unsigned* tickets, Store store) {
  typedef Tile<TILE_M, A_ALONG_K> TileA;
  typedef Tile<TILE_N, B_ALONG_K> TileB;
  __shared__ TileA tile_a[2];
  __shared__ TileB tile_b[2];
  float4 next_a[TileA::EACH], next_b[TileB::EACH];
  float sums[FRAGMENTS_M][FRAGMENTS_N][4] = {};
  const int t = threadIdx.x, group = t % 32 / 4, member = t % 4, warp = t / 32;
  const int top = warp / WARPS_N * FRAGMENTS_M * 16 + group, left = warp % WARPS_N * FRAGMENTS_N * 8;
  const int steps = (depth + TILE_K - 1) / TILE_K, share = (steps + gridDim.z - 1) / gridDim.z;
  const int first = blockIdx.z * share, last = min(steps, first + share);

  auto fetch = [&](int step) {
    TileA::fetch(next_a, row0, step * TILE_K, a, wide_a, place_a);
    TileB::fetch(next_b, column0, step * TILE_K, b, wide_b, place_b);
  };
  if (first < last) fetch(first);
  for (int step = first; step < last; step++) {
    TileA& mine_a = tile_a[step % 2];
    TileB& mine_b = tile_b[step % 2];
    mine_a.put(next_a);
    mine_b.put(next_b);
    __syncthreads();  // once is enough: nobody fills a tile again before all have passed the next barrier
    if (step + 1 < last) fetch(step + 1);
#pragma unroll(TILE_M * TILE_N > 64 * 128 ? 1 : 2)  // the largest tile has no registers for more
    for (int k = 0; k < TILE_K; k += 8) {
      float fb[FRAGMENTS_N][2];
#pragma unroll
      for (int j = 0; j < FRAGMENTS_N; j++)
        for (int e = 0; e < 2; e++) fb[j][e] = mine_b.at(left + j * 8 + group, k + member + e * 4);
#pragma unroll
      for (int i = 0; i < FRAGMENTS_M; i++) {
        float fa[4];
#pragma unroll
        for (int e = 0; e < 4; e++) fa[e] = mine_a.at(top + i * 16 + e % 2 * 8, k + member + e / 2 * 4);
#pragma unroll
        for (int j = 0; j < FRAGMENTS_N; j++) multiply_fragments(sums[i][j], fa, fb[j]);
      }
    }
  }

  constexpr int NUMBERS = FRAGMENTS_M * FRAGMENTS_N * 4;  // of each thread
  float* mine = &sums[0][0][0];
  if (gridDim.z > 1) {
    const int tile = blockIdx.y * gridDim.x + blockIdx.x, tiles = gridDim.x * gridDim.y;
    float* parts = partial + (size_t)tile * NUMBERS * THREADS + t;
    const size_t split = (size_t)tiles * NUMBERS * THREADS;
#pragma unroll
    for (int e = 0; e < NUMBERS; e++) parts[blockIdx.z * split + e * THREADS] = mine[e];
    if (!finished_last(&tickets[tile], gridDim.z)) return;
#pragma unroll
    for (int e = 0; e < NUMBERS; e++) mine[e] = 0;
    for (int z = 0; z < (int)gridDim.z; z++)
#pragma unroll
      for (int e = 0; e < NUMBERS; e++) mine[e] += __ldcg(&parts[z * split + e * THREADS]);  // from no cache but L2
  }
#pragma unroll
  for (int e = 0; e < NUMBERS; e++) {
    const int i = e / (FRAGMENTS_N * 4), j = e / 4 % FRAGMENTS_N;
    store(row0 + top + i * 16 + e % 4 / 2 * 8, column0 + left + j * 8 + member * 2 + e % 2, mine[e]);
  }
}
