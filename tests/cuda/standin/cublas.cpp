// cuBLAS: products are logged, not computed. STANDIN_CUBLAS_ROWS=N lets those of N or more rows fail for want of
// memory.
#include "standin.h"

static int math_mode = 0;
static const int ALLOC_FAILED = 3;

static int product(const char *call, int transpose_a, int transpose_b, int m, int n, int k, int batch, int type) {
  char line[200];
  snprintf(line, sizeof line, "%s %c%c m %d n %d k %d batch %d type %d math %d", call, transpose_a ? 'T' : 'N',
           transpose_b ? 'T' : 'N', m, n, k, batch, type, math_mode);
  standin_log(line);
  if (int error = failure_of(call)) return error;
  const long rows = setting("STANDIN_CUBLAS_ROWS", 0);
  return rows && (m >= rows || n >= rows) ? ALLOC_FAILED : 0;
}

extern "C" {
int cublasCreate_v2(void **created) {
  *created = handle();
  return failure_of("cublasCreate_v2");
}
int cublasSetMathMode(void *, int mode) {
  math_mode = mode;
  return 0;
}
int cublasGetMathMode(void *, int *mode) {
  *mode = math_mode;
  return 0;
}
const char *cublasGetStatusName(int status) {
  return status == ALLOC_FAILED ? "CUBLAS_STATUS_ALLOC_FAILED" : "CUBLAS_STATUS_EXECUTION_FAILED";
}
const char *cublasGetStatusString(int status) {
  return status == ALLOC_FAILED ? "the resource allocation failed" : "the function failed to launch on the GPU";
}
int cublasGemmEx(void *, int ta, int tb, int m, int n, int k, const void *, const void *, int type, int, const void *,
                 int, int, const void *, void *, int, int, int, int) {
  return product("cublasGemmEx", ta, tb, m, n, k, 1, type);
}
int cublasGemmStridedBatchedEx(void *, int ta, int tb, int m, int n, int k, const void *, const void *, int type, int,
                               long long, const void *, int, int, long long, const void *, void *, int, int, long long,
                               int batch, int, int) {
  return product("cublasGemmStridedBatchedEx", ta, tb, m, n, k, batch, type);
}
int cublasGemmBatchedEx(void *, int ta, int tb, int m, int n, int k, const void *, const void *const *, int type, int,
                        const void *const *, int, int, const void *, void *const *, int, int, int batch, int, int) {
  return product("cublasGemmBatchedEx", ta, tb, m, n, k, batch, type);
}
int cublasSgemm_v2(void *, int ta, int tb, int m, int n, int k, const float *, const float *, int, const float *, int,
                   const float *, float *, int) {
  return product("cublasSgemm_v2", ta, tb, m, n, k, 1, 0);
}
int cublasSgemmStridedBatched(void *, int ta, int tb, int m, int n, int k, const float *, const float *, int, long long,
                              const float *, int, long long, const float *, float *, int, long long, int batch) {
  return product("cublasSgemmStridedBatched", ta, tb, m, n, k, batch, 0);
}
SUCCEEDS(cublasDestroy_v2)
SUCCEEDS(cublasSetStream_v2)
SUCCEEDS(cublasDgeam)
SUCCEEDS(cublasDgemmBatched)
SUCCEEDS(cublasDgemmStridedBatched)
SUCCEEDS(cublasDgemm_v2)
SUCCEEDS(cublasDgetrfBatched)
SUCCEEDS(cublasDgetriBatched)
SUCCEEDS(cublasScopy_v2)
SUCCEEDS(cublasSgeam)
SUCCEEDS(cublasSgemmBatched)
SUCCEEDS(cublasSgetrfBatched)
SUCCEEDS(cublasSgetriBatched)
SUCCEEDS(cublasSscal_v2)
}
