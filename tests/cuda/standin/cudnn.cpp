// cuDNN: every plan can be built; executing one is logged.
#include "standin.h"

// Attributes of a plan that are lists, empty here, and types of values: cudnn_graph.h.
static const int ENGINECFG_KNOB_CHOICES = 302, ENGINE_NUMERICAL_NOTE = 1303, ENGINE_BEHAVIOR_NOTE = 1305;
static const int TYPE_INT64 = 3, TYPE_INT32 = 23;

extern "C" {
size_t cudnnGetVersion() { return setting("STANDIN_CUDNN_VERSION", 91900); }
size_t cudnnGetCudartVersion() { return 13000; }
int cudnnCreate(void **created) {
  *created = handle();
  return failure_of("cudnnCreate");
}
int cudnnGetStream(void *, void **stream) {
  *stream = nullptr;
  return 0;
}
const char *cudnnGetErrorString(int) { return "CUDNN_STATUS_STAND_IN"; }
void cudnnGetLastErrorString(char *text, size_t size) { snprintf(text, size, "a stand-in of cuDNN"); }
int cudnnBackendCreateDescriptor(int, void **created) {
  *created = handle();
  return 0;
}
int cudnnBackendGetAttribute(void *, int attribute, int type, int64_t wanted, int64_t *n, void *values) {
  const bool empty =
      attribute == ENGINECFG_KNOB_CHOICES || attribute == ENGINE_NUMERICAL_NOTE || attribute == ENGINE_BEHAVIOR_NOTE;
  if (n) *n = empty ? 0 : wanted ? wanted : 1;
  if (values && type == TYPE_INT64) *(int64_t *)values = 0;
  if (values && type == TYPE_INT32) *(int32_t *)values = 0;
  return 0;
}
int cudnnBackendExecute(void *, void *, void *) {
  standin_log("cudnnBackendExecute");
  return failure_of("cudnnBackendExecute");
}
int cudnnBackendFinalize(void *descriptor) {
  standin_log("cudnnBackendFinalize");
  return 0;
}
SUCCEEDS(cudnnDestroy)
SUCCEEDS(cudnnSetStream)
SUCCEEDS(cudnnBackendDestroyDescriptor)
SUCCEEDS(cudnnBackendInitialize)
SUCCEEDS(cudnnBackendSetAttribute)
SUCCEEDS(cudnnBackendPopulateCudaGraph)
SUCCEEDS(cudnnBackendUpdateCudaGraph)
}
