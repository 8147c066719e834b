// cuBLASLt: products are logged, not computed.
#include "standin.h"

struct Layout {
  int type;
  uint64_t rows, columns;
};

extern "C" {
int cublasLtCreate(void **created) {
  *created = handle();
  return 0;
}
int cublasLtMatmulDescCreate(void **created, int, int) {
  *created = handle();
  return 0;
}
int cublasLtMatrixLayoutCreate(Layout **created, int type, uint64_t rows, uint64_t columns, int64_t) {
  *created = new Layout{type, rows, columns};
  return 0;
}
int cublasLtMatmulPreferenceCreate(void **created) {
  *created = handle();
  return 0;
}
int cublasLtMatrixTransformDescCreate(void **created, int) {
  *created = handle();
  return 0;
}
int cublasLtMatmulAlgoGetHeuristic(void *, void *, void *, void *, void *, void *, void *, int, void *found, int *n) {
  memset(found, 0, 64);
  *n = 1;
  return 0;
}
int cublasLtMatmul(void *, void *, const void *, const void *, Layout *a, const void *, Layout *b, const void *,
                   const void *, Layout *, void *, Layout *d, const void *, void *, size_t, void *) {
  char line[200];
  snprintf(line, sizeof line, "cublasLtMatmul %lux%lu %lux%lu -> %lux%lu type %d", a->rows, a->columns, b->rows,
           b->columns, d->rows, d->columns, a->type);
  standin_log(line);
  return failure_of("cublasLtMatmul");
}
SUCCEEDS(cublasLtDestroy)
SUCCEEDS(cublasLtMatmulAlgoConfigSetAttribute)
SUCCEEDS(cublasLtMatmulAlgoInit)
SUCCEEDS(cublasLtMatmulDescDestroy)
SUCCEEDS(cublasLtMatmulDescSetAttribute)
SUCCEEDS(cublasLtMatmulPreferenceDestroy)
SUCCEEDS(cublasLtMatmulPreferenceSetAttribute)
SUCCEEDS(cublasLtMatrixLayoutDestroy)
SUCCEEDS(cublasLtMatrixLayoutSetAttribute)
SUCCEEDS(cublasLtMatrixTransform)
SUCCEEDS(cublasLtMatrixTransformDescDestroy)
}
