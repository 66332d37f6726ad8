/* libcublas on host memory: the symbols that minidl calls, with the library's own checks of their arguments. */
#include <stddef.h>
#include <stdlib.h>

enum { SUCCESS = 0, INVALID_VALUE = 7, NOT_SUPPORTED = 15 };
enum { FLOAT = 0, DOUBLE = 1 };

int last_compute_type; /* what the tests ask for */

int cublasCreate_v2(void** handle) {
  *handle = malloc(1);
  return SUCCESS;
}
int cublasSetStream_v2(void* handle, void* stream) { return SUCCESS; }
int cublasSetWorkspace_v2(void* handle, void* workspace, size_t bytes) {
  return (size_t)workspace % 256 ? INVALID_VALUE : SUCCESS;
}

#define PRODUCT(T)                                                                                                  \
  for (int j = 0; j < n; j++) {                                                                                     \
    T* out = (T*)C + (size_t)j * ldc;                                                                               \
    for (int i = 0; i < m; i++) out[i] = *(const T*)beta ? *(const T*)beta * out[i] : 0;                            \
    for (int l = 0; l < k; l++) {                                                                                   \
      const T factor = *(const T*)alpha * ((const T*)B)[tb ? (size_t)l * ldb + j : (size_t)j * ldb + l];            \
      const T* column = (const T*)A + (ta ? (size_t)l : (size_t)l * lda);                                           \
      const size_t step = ta ? lda : 1;                                                                             \
      for (int i = 0; i < m; i++) out[i] += column[i * step] * factor;                                              \
    }                                                                                                               \
  }

int cublasGemmEx(void* handle, int ta, int tb, int m, int n, int k, const void* alpha, const void* A, int at, int lda,
                 const void* B, int bt, int ldb, const void* beta, void* C, int ct, int ldc, int compute, int algorithm) {
  if (!handle || m < 0 || n < 0 || k < 0 || lda < (ta ? k : m) || ldb < (tb ? n : k) || ldc < m) return INVALID_VALUE;
  if (at != bt || at != ct || algorithm != -1) return NOT_SUPPORTED;
  if (!(at == FLOAT ? compute == 68 || compute == 77 : at == DOUBLE && compute == 70)) return NOT_SUPPORTED;
  last_compute_type = compute;
  if (at == FLOAT) {
    PRODUCT(float)
  } else {
    PRODUCT(double)
  }
  return SUCCESS;
}

int cublasGemmStridedBatchedEx(void* handle, int ta, int tb, int m, int n, int k, const void* alpha, const void* A, int at,
                               int lda, long long sa, const void* B, int bt, int ldb, long long sb, const void* beta, void* C,
                               int ct, int ldc, long long sc, int count, int compute, int algorithm) {
  const size_t size = at == FLOAT ? 4 : 8;
  for (int s = 0; s < count; s++) {
    const int status = cublasGemmEx(handle, ta, tb, m, n, k, alpha, (const char*)A + s * sa * size, at, lda,
                                    (const char*)B + s * sb * size, bt, ldb, beta, (char*)C + s * sc * size, ct, ldc, compute,
                                    algorithm);
    if (status) return status;
  }
  return SUCCESS;
}
