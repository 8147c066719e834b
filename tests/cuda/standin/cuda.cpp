// The driver's library. STANDIN_DRIVER_CUDA=12080: the newest CUDA that the driver runs, as cuDriverGetVersion gives
// it.
#include "standin.h"

static const int CAPABILITY_MAJOR = 75, CAPABILITY_MINOR = 76; // CUdevice_attribute

extern "C" {
int cuInit(unsigned) { return failure_of("cuInit"); }
int cuDriverGetVersion(int *version) {
  *version = setting("STANDIN_DRIVER_CUDA", 13000);
  return 0;
}
int cuDeviceGetCount(int *n) {
  *n = n_devices();
  return failure_of("cuDeviceGetCount");
}
int cuDeviceGet(int *device, int index) {
  *device = index;
  return 0;
}
int cuDeviceGetName(char *name, int size, int) {
  snprintf(name, size, "%s", device_name);
  return 0;
}
int cuDeviceTotalMem_v2(size_t *bytes, int) {
  *bytes = memory_bytes();
  return 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int) {
  *value = 0;
  if (attribute == CAPABILITY_MAJOR) *value = compute_capability() / 10;
  if (attribute == CAPABILITY_MINOR) *value = compute_capability() % 10;
  return 0;
}
int cuDeviceGetPCIBusId(char *address, int size, int device) {
  snprintf(address, size, "0000:%02x:00.0", device);
  return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int) {
  *context = handle();
  return 0;
}
int cuCtxPopCurrent_v2(void **context) {
  *context = nullptr;
  return 0;
}
SUCCEEDS(cuDevicePrimaryCtxRelease_v2)
SUCCEEDS(cuCtxSetCurrent)
SUCCEEDS(cuCtxPushCurrent_v2)
SUCCEEDS(cuMemHostRegister_v2)
SUCCEEDS(cuMemHostUnregister)
SUCCEEDS(cuTensorMapEncodeTiled)
}
