// A matrix product on tensor cores whose operands are gathered on the way: what "implicit" convolutions are made of.
// Constants: TILE_M, TILE_N, the part of the result that a thread block computes: 64 or 128 by 64 or 128, or 128 by 32;
// SPLIT, 1 where float32 is wanted: each factor is then the sum of two TF32 numbers, and three products are added up.

#define WORKERS 128  // threads of a block
#define TILE_K 16    // of the depth, in one step
#define GROUP 8      // blocks that share a depth
#define STAGES 3     // steps in shared memory: one is multiplied while the next two are on their way
#define WARPS_N (TILE_N == 32 ? 1 : 2)
#define WARPS_M (4 / WARPS_N)
#define FRAGMENTS_M (TILE_M / WARPS_M / 16)  // of 16 x 8 numbers, in the part of a warp
#define FRAGMENTS_N (TILE_N / WARPS_N / 8)
#define RESIDENT (TILE_M * TILE_N << SPLIT > 64 * 128 ? 2 : 3)  // blocks that share a processor
#define OUTSIDE (-(1 << 30))  // a row or a depth that no matrix has: added to any place, it stays negative

// Tensor cores read 10 bits of a factor's mantissa and cut the others off, which would make all products smaller. Grown by
// this, less than one of the last bits, factors are as often too large: what has 10 bits stays as it is, others are off
// by 0.7 of that bit at most. One multiplication, where rounding to the nearest takes three instructions.
#define GROWN (1 + 0.7f / 2048)

#ifndef ON_CPU  // where tests bring their own
// d (16, 8) += a (16, 8) b (8, 8), spread over a warp as the PTX manual draws it for mma.m16n8k8.
__device__ void multiply_fragments(float (&d)[4], const float (&a)[4], const float (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])),
        "r"(__float_as_uint(a[3])), "r"(__float_as_uint(b[0])), "r"(__float_as_uint(b[1])));
}

// Four numbers, or one, from from[at] into shared memory, without waiting; zeros if `at` is negative.
__device__ void copy_four(float4* to, const float* from, int at) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;" ::"r"((unsigned)__cvta_generic_to_shared(to)),
               "l"(from + max(at, 0)), "r"(at < 0 ? 0 : 16)
               : "memory");
}
__device__ void copy_one(float* to, const float* from, int at) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"((unsigned)__cvta_generic_to_shared(to)),
               "l"(from + max(at, 0)), "r"(at < 0 ? 0 : 4)
               : "memory");
}
// Copies begun since the last call are one group; wait until all but the latest `groups` have arrived.
__device__ void end_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int groups>
__device__ void wait_for_all_but() {
  asm volatile("cp.async.wait_group %0;" ::"n"(groups) : "memory");
}
#endif

// ROWS x TILE_K numbers of an operand in shared memory, in quads: four of the depth if that is how they lie next to each
// other in device memory (ALONG_K), else four of the rows. The order of quads keeps the 16 bytes that eight neighbouring
// threads copy, or read, in different banks.
//
// A sum over the depth may take it in any order, as long as both operands agree: step s of two, half h of the tensor
// cores' eight, member m of four stand for depth 4 m + 2 s + h. So a quad of either kind is read whole.
template <int ROWS, bool ALONG_K>
struct Tile {
  static constexpr int ACROSS = ROWS / 4, EACH = ROWS * TILE_K / 4 / WORKERS;  // quads of each thread
  float4 quads[ROWS * TILE_K / 4];

  // Where this thread's quad i lies: its first row and depth.
  static __device__ int row(int i) { return ALONG_K ? threadIdx.x / 4 + i * (WORKERS / 4) : threadIdx.x % ACROSS * 4; }
  static __device__ int k(int i) {
    return ALONG_K ? threadIdx.x % 4 * 4 : threadIdx.x / ACROSS + i * (WORKERS / ACROSS);
  }
  static __device__ int quad(int row, int k) {
    if (ALONG_K) return row / 2 * 8 + ((row ^ row / 4) & 1) * 4 + k / 4;
    return (k / 4 + k % 4 * 4) * ACROSS + (row / 4 ^ k / 4 * 2);
  }

  // An operand: `place` has row(r) and depth(k), what is known of each, and at(row, depth), where in `from` the number
  // lies, negative for a zero. `wide` tells that the four of a quad lie side by side or are all zero, at an address that
  // can be read at once.
  template <class Place>
  struct Source {
    const float* from;
    Place place;
    bool wide;
    decltype(place.row(0)) rows[EACH < 4 ? 4 : EACH];

    __device__ Source(const float* from, Place place, bool wide, int row0) : from(from), place(place), wide(wide) {
      if (ALONG_K)
        for (int i = 0; i < EACH; i++) rows[i] = place.row(row0 + row(i));
      else
        for (int j = 0; j < 4; j++) rows[j] = place.row(row0 + row(0) + j);
    }

    __device__ void fetch(Tile& tile, int k0) const {
      if (ALONG_K) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
          const auto depth = place.depth(k0 + k(0) + j);
#pragma unroll
          for (int i = 0; i < EACH; i++) {
            float4* to = &tile.quads[quad(row(i), k(0))];
            const int at = place.at(rows[i], depth);
            if (wide)
              copy_four(to, from, at);
            else
              copy_one(&to->x + j, from, at);
          }
          if (wide) break;
        }
      } else {
#pragma unroll
        for (int i = 0; i < EACH; i++) {
          const auto depth = place.depth(k0 + k(i));
          float4* to = &tile.quads[quad(row(0), k(i))];
          if (wide) {
            copy_four(to, from, place.at(rows[0], depth));
          } else {
#pragma unroll
            for (int j = 0; j < 4; j++) copy_one(&to->x + j, from, place.at(rows[j], depth));
          }
        }
      }
    }
  };
};

// The fragments of a warp for both steps. Rows of A that lie along the depth are the tensor cores' own, 16 by 16; else
// a quad is rows g, g + 8 of two fragments. Columns of B are always four fragments' column g: a thread that holds sums of
// four fragments has four neighbours of the result.
template <bool ALONG_K>
__device__ void read_a(const Tile<TILE_M, ALONG_K>& tile, int top, int group, int member, float (&a)[2][FRAGMENTS_M][4]) {
  const float4* from = tile.quads + (ALONG_K ? tile.quad(top + group, member * 4)
                                             : member * (TILE_M / 4) + top / 4 + (group ^ member * 2));
#pragma unroll
  for (int i = 0; i < FRAGMENTS_M; i++)
#pragma unroll
    for (int e = 0; e < 2; e++) {
      if (ALONG_K) {
        const float4 v = from[(i * 16 + e * 8) * 4];
        a[0][i][e] = v.x, a[0][i][e + 2] = v.y, a[1][i][e] = v.z, a[1][i][e + 2] = v.w;
      } else {  // the fragments of a pair share the four depths: two each
        const int q = i % 2 * 2 + e, pair = i / 2 * 2;
        const float4 v = from[q * TILE_M + pair * 4];
        float(&one)[4] = a[q / 2][pair], (&other)[4] = a[q / 2][pair + 1];
        one[q % 2 * 2] = v.x, one[q % 2 * 2 + 1] = v.y, other[q % 2 * 2] = v.z, other[q % 2 * 2 + 1] = v.w;
      }
    }
}

template <bool ALONG_K>
__device__ void read_b(const Tile<TILE_N, ALONG_K>& tile, int left, int group, int member, float (&b)[2][FRAGMENTS_N][2]) {
#pragma unroll
  for (int j = 0; j < FRAGMENTS_N; j++) {
    const int four = j / 4 * 4, q = j % 4;
    if (ALONG_K) {
      const float4 v = tile.quads[tile.quad(left + four * 8 + group * 4 + q, member * 4)];
      b[0][j][0] = v.x, b[0][j][1] = v.y, b[1][j][0] = v.z, b[1][j][1] = v.w;
    } else {
      const float4 v = tile.quads[(member + q * 4) * (TILE_N / 4) + left / 4 + four * 2 + (group ^ member * 2)];
      b[q / 2][four][q % 2] = v.x, b[q / 2][four + 1][q % 2] = v.y;
      b[q / 2][four + 2][q % 2] = v.z, b[q / 2][four + 3][q % 2] = v.w;
    }
  }
}

// A factor as the tensor cores are to read it.
__device__ float high_part(float v) {
  return SPLIT ? __uint_as_float(__float_as_uint(v * GROWN) & 0xffffe000u) : v * GROWN;
}

// sums += a b, both steps. Split factors are high + low with low below 2^-10 of high; low times low is too small to
// count. Their sums are rounded to the nearest here, for tensor cores cut off what does not fit.
__device__ void multiply(float (&sums)[FRAGMENTS_M][FRAGMENTS_N][4], const float (&a)[2][FRAGMENTS_M][4],
                         const float (&b)[2][FRAGMENTS_N][2]) {
  float high_b[2][FRAGMENTS_N][2], low_b[2][FRAGMENTS_N][2];
#pragma unroll
  for (int s = 0; s < 2; s++)
#pragma unroll
    for (int j = 0; j < FRAGMENTS_N; j++)
#pragma unroll
      for (int e = 0; e < 2; e++) {
        high_b[s][j][e] = high_part(b[s][j][e]);
        low_b[s][j][e] = b[s][j][e] - high_b[s][j][e];
      }
#pragma unroll
  for (int i = 0; i < FRAGMENTS_M; i++) {
    float high_a[2][4], low_a[2][4];
#pragma unroll
    for (int s = 0; s < 2; s++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        high_a[s][e] = high_part(a[s][i][e]);
        low_a[s][e] = a[s][i][e] - high_a[s][e];
      }
#pragma unroll
    for (int j = 0; j < FRAGMENTS_N; j++) {
      if (SPLIT) {
        float d[4] = {};
#pragma unroll
        for (int s = 0; s < 2; s++) {
          multiply_fragments(d, low_a[s], high_b[s][j]);
          multiply_fragments(d, high_a[s], low_b[s][j]);
        }
#pragma unroll
        for (int s = 0; s < 2; s++) multiply_fragments(d, high_a[s], high_b[s][j]);
#pragma unroll
        for (int e = 0; e < 4; e++) sums[i][j][e] += d[e];
      } else {
#pragma unroll
        for (int s = 0; s < 2; s++) multiply_fragments(sums[i][j], high_a[s], high_b[s][j]);
      }
    }
  }
}

// A (., depth) times B (depth, .): the tile of the result at (row0, column0), given to `store(row, column, values)`,
// four neighbours of a row at a time. A and B as in Tile::Source; what lies outside of the matrices counts as zeros.
//
// Blocks with the same x and y share the depth: each leaves its sums in `partial`. The one that finishes last of a group
// adds up the group's, and the one whose group is the last to finish those of all, always in the same order.
template <bool A_ALONG_K, bool B_ALONG_K, class PlaceA, class PlaceB, class Store>
__device__ void product(int row0, int column0, int depth, const float* a, bool wide_a, PlaceA place_a, const float* b,
                        bool wide_b, PlaceB place_b, float* partial, unsigned* tickets, Store store) {
  typedef Tile<TILE_M, A_ALONG_K> TileA;
  typedef Tile<TILE_N, B_ALONG_K> TileB;
  __shared__ TileA tile_a[STAGES];
  __shared__ TileB tile_b[STAGES];
  const typename TileA::template Source<PlaceA> source_a(a, place_a, wide_a, row0);
  const typename TileB::template Source<PlaceB> source_b(b, place_b, wide_b, column0);
  float sums[FRAGMENTS_M][FRAGMENTS_N][4] = {};
  const int t = threadIdx.x, group = t % 32 / 4, member = t % 4, warp = t / 32;
  const int top = warp / WARPS_N * FRAGMENTS_M * 16, left = warp % WARPS_N * FRAGMENTS_N * 8;
  const int steps = (depth + TILE_K - 1) / TILE_K, share = (steps + gridDim.z - 1) / gridDim.z;
  const int first = blockIdx.z * share, last = min(steps, first + share);

  auto fetch = [&](int step, int stage) {
    if (step < last) {
      source_a.fetch(tile_a[stage], step * TILE_K);
      source_b.fetch(tile_b[stage], step * TILE_K);
    }
    end_group();
  };
  for (int i = 0; i < STAGES - 1; i++) fetch(first + i, i);
  for (int step = first, stage = 0; step < last; step++, stage = (stage + 1) % STAGES) {
    float fa[2][FRAGMENTS_M][4], fb[2][FRAGMENTS_N][2];
    wait_for_all_but<STAGES - 2>();
    __syncthreads();  // everyone's copies have arrived, and nobody reads any more what the next ones go to
    fetch(step + STAGES - 1, (stage + STAGES - 1) % STAGES);
    read_a(tile_a[stage], top, group, member, fa);
    read_b(tile_b[stage], left, group, member, fb);
    multiply(sums, fa, fb);
  }

  constexpr int NUMBERS = FRAGMENTS_M * FRAGMENTS_N * 4;  // of each thread
  float* mine = &sums[0][0][0];
  if (gridDim.z > 1) {
    const int tile = blockIdx.y * gridDim.x + blockIdx.x, tiles = gridDim.x * gridDim.y;
    float* parts = partial + (size_t)tile * NUMBERS * WORKERS + t;
    const size_t split = (size_t)tiles * NUMBERS * WORKERS;
    const int blocks = gridDim.z, groups = (blocks + GROUP - 1) / GROUP, group_of = blockIdx.z / GROUP;
    unsigned* ticket = tickets + tile * (groups + 1);
    int own = blockIdx.z, begin = group_of * GROUP, end = min(blocks, begin + GROUP), step = 1;
    for (int which = group_of;; which = groups) {
#pragma unroll
      for (int e = 0; e < NUMBERS; e++) parts[own * split + e * WORKERS] = mine[e];
      if (!finished_last(&ticket[which], (end - begin + step - 1) / step)) return;
#pragma unroll
      for (int e = 0; e < NUMBERS; e++) mine[e] = 0;
      for (int z = begin; z < end; z += step)
#pragma unroll
        for (int e = 0; e < NUMBERS; e++) mine[e] += __ldcg(&parts[z * split + e * WORKERS]);  // from no cache but L2
      if (which == groups || groups == 1) break;
      own = begin, begin = 0, end = blocks, step = GROUP;
    }
  }
#pragma unroll
  for (int i = 0; i < FRAGMENTS_M; i++)
#pragma unroll
    for (int e = 0; e < 4; e++) {  // e / 2: rows g or g + 8; e % 2: of two columns
      const int row = A_ALONG_K ? i * 16 + e / 2 * 8 + group : i / 2 * 32 + group * 4 + i % 2 * 2 + e / 2;
#pragma unroll
      for (int j = 0; j < FRAGMENTS_N; j += 4) {
        const float4 four = {sums[i][j][e], sums[i][j + 1][e], sums[i][j + 2][e], sums[i][j + 3][e]};
        store(row0 + top + row, column0 + left + j * 8 + (member * 2 + e % 2) * 4, four);
      }
    }
}

// values into y[at ...] as far as `count` reaches.
__device__ void store_four(float* y, int at, float4 values, int count, bool wide) {
  if (wide && count > 0) {
    *(float4*)(y + at) = values;
  } else {
    const float* v = &values.x;
    for (int i = 0; i < 4; i++)
      if (i < count) y[at + i] = v[i];
  }
}
