// NVML: what is used of a device's memory is what libcudart has allocated there, or STANDIN_OTHERS bytes more.
#include "standin.h"
#include <dlfcn.h>

struct Memory {
  unsigned long long total, free, used;
};

extern "C" {
int nvmlSystemGetDriverVersion(char *text, unsigned size) {
  snprintf(text, size, "580.65.06");
  return 0;
}
int nvmlDeviceGetHandleByPciBusId_v2(const char *address, void **device) {
  *device = (void *)(strtoul(address + strlen("0000:"), nullptr, 16) + 1);
  return 0;
}
int nvmlDeviceGetMemoryInfo(void *device, Memory *memory) {
  void *cudart = dlopen("libcudart.so.13", RTLD_NOW | RTLD_NOLOAD);
  auto used = cudart ? (decltype(&standin_used))dlsym(cudart, "standin_used") : nullptr;
  memory->total = memory_bytes();
  memory->used = setting("STANDIN_OTHERS", 0) + (used ? used((long)device - 1) : 0);
  memory->free = memory->total - memory->used;
  return 0;
}
SUCCEEDS(nvmlInit_v2)
}
