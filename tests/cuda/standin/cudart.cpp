// The CUDA runtime: memory of a device is the host's, kernels are only logged. What merely succeeds is in
// cudart_calls.cpp.
#include "standin.h"
#include <atomic>
#include <cuda_runtime_api.h>
#include <mutex>
#include <string>
#include <sys/mman.h>
#include <unistd.h>
#include <sys/syscall.h>
#include <unordered_map>

struct Block {
  size_t size;
  int device;
};
static std::mutex guard;
static std::unordered_map<void *, Block> blocks;
static size_t used[16];
static std::unordered_map<const void *, std::string> kernel_names;
static std::atomic<bool> capturing{false};
static thread_local int current_device = 0;
static thread_local cudaError_t last_error = cudaSuccess;

static size_t rounded(size_t size) { return size ? (size + 4095) / 4096 * 4096 : 4096; }

static cudaError_t result(int error) {
  if (error) last_error = (cudaError_t)error;
  return (cudaError_t)error;
}

#define FAIL_IF_ASKED(call)                                                                                            \
  if (int error = failure_of(call)) return result(error)

template <class... Arguments> static void log(const char *format, Arguments... arguments) {
  char line[1024];
  snprintf(line, sizeof line, format, arguments...);
  standin_log(line);
}

static const char *captured() { return capturing ? " (capturing)" : ""; }

static cudaError_t allocate(const char *call, void **address, size_t size) {
  FAIL_IF_ASKED(call);
  {
    std::lock_guard<std::mutex> lock(guard);
    void *found = MAP_FAILED;
    if (used[current_device] + size <= memory_bytes())
      found = mmap(nullptr, rounded(size), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (found != MAP_FAILED) {
      blocks[found] = {size, current_device};
      used[current_device] += size;
      *address = found;
    } else {
      *address = nullptr;
    }
  }
  log("%s %zu device %d used %zu%s%s", call, size, current_device, used[current_device], *address ? "" : " FAILED",
      captured());
  return result(*address ? cudaSuccess : cudaErrorMemoryAllocation);
}

static cudaError_t release(void *address) {
  std::lock_guard<std::mutex> lock(guard);
  auto found = blocks.find(address);
  if (found == blocks.end()) return cudaSuccess;
  used[found->second.device] -= found->second.size;
  munmap(address, rounded(found->second.size));
  blocks.erase(found);
  return cudaSuccess;
}

static cudaError_t allocate_pinned(const char *call, void **address, size_t size) {
  *address = aligned_alloc(4096, rounded(size));
  log("%s %zu", call, size);
  return cudaSuccess;
}

static void log_copy(const char *call, size_t size, cudaMemcpyKind kind) {
  static const char *const kinds[] = {"HH", "HD", "DH", "DD", "default"};
  log("%s %s %zu%s", call, kinds[kind], size, captured());
}

static cudaError_t launch(const char *call, const void *kernel, dim3 grid, dim3 block) {
  FAIL_IF_ASKED("cudaLaunchKernel");
  std::string name = "?";
  {
    std::lock_guard<std::mutex> lock(guard);
    auto found = kernel_names.find(kernel);
    if (found != kernel_names.end()) name = found->second;
  }
  log("launch %.600s grid %u,%u,%u block %u,%u,%u%s", name.c_str(), grid.x, grid.y, grid.z, block.x, block.y, block.z,
      captured());
  if (!grid.x || !grid.y || !grid.z || grid.y > 65535 || grid.z > 65535 || grid.x > 2147483647u)
    return result(cudaErrorInvalidConfiguration);
  return cudaSuccess;
}

extern "C" {

// STANDIN_LOG=FILE: a line for every call that matters, after the number of the thread that makes it.
void standin_log(const char *line) {
  static std::mutex writing;
  static FILE *file = [] {
    const char *path = getenv("STANDIN_LOG");
    FILE *opened = path ? fopen(path, "a") : nullptr;
    if (opened) setvbuf(opened, nullptr, _IOLBF, 1 << 16);
    return opened;
  }();
  if (!file) return;
  std::lock_guard<std::mutex> lock(writing);
  fprintf(file, "%ld %s\n", syscall(SYS_gettid), line);
}

size_t standin_used(int device) { return used[device]; }

// --- devices

cudaError_t cudaGetDeviceCount(int *n) {
  FAIL_IF_ASKED("cudaGetDeviceCount");
  *n = n_devices();
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int *device) {
  *device = current_device;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  FAIL_IF_ASKED("cudaSetDevice");
  if (device < 0 || device >= n_devices()) return result(cudaErrorInvalidDevice);
  current_device = device;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *found, int) {
  FAIL_IF_ASKED("cudaGetDeviceProperties");
  cudaDeviceProp &p = *found;
  memset(&p, 0, sizeof p);
  strcpy(p.name, device_name);
  p.totalGlobalMem = memory_bytes();
  p.major = compute_capability() / 10, p.minor = compute_capability() % 10;
  p.multiProcessorCount = 132, p.warpSize = 32;
  p.maxThreadsPerBlock = 1024, p.maxThreadsPerMultiProcessor = 2048, p.maxBlocksPerMultiProcessor = 32;
  p.maxThreadsDim[0] = p.maxThreadsDim[1] = 1024, p.maxThreadsDim[2] = 64;
  p.maxGridSize[0] = 2147483647, p.maxGridSize[1] = p.maxGridSize[2] = 65535;
  p.regsPerBlock = p.regsPerMultiprocessor = 65536;
  p.sharedMemPerBlock = 49152, p.sharedMemPerBlockOptin = 232448, p.sharedMemPerMultiprocessor = 233472;
  p.reservedSharedMemPerBlock = 1024;
  p.l2CacheSize = 50 << 20, p.memoryBusWidth = 5120;
  p.managedMemory = p.concurrentKernels = p.unifiedAddressing = p.memoryPoolsSupported = 1;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int) {
  cudaDeviceProp p;
  cudaGetDeviceProperties(&p, 0);
  switch (attribute) {
  case cudaDevAttrComputeCapabilityMajor: *value = p.major; break;
  case cudaDevAttrComputeCapabilityMinor: *value = p.minor; break;
  case cudaDevAttrMultiProcessorCount: *value = p.multiProcessorCount; break;
  case cudaDevAttrWarpSize: *value = p.warpSize; break;
  case cudaDevAttrMaxThreadsPerBlock: *value = p.maxThreadsPerBlock; break;
  case cudaDevAttrMaxThreadsPerMultiProcessor: *value = p.maxThreadsPerMultiProcessor; break;
  case cudaDevAttrMaxSharedMemoryPerBlock: *value = p.sharedMemPerBlock; break;
  case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = p.sharedMemPerBlockOptin; break;
  case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = p.sharedMemPerMultiprocessor; break;
  default: *value = 1; // capabilities such as memory pools
  }
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int *version) {
  *version = setting("STANDIN_DRIVER_CUDA", 13000);
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version) {
  *version = 13000;
  return cudaSuccess;
}

// --- memory

cudaError_t cudaMalloc(void **address, size_t size) { return allocate("cudaMalloc", address, size); }
cudaError_t cudaMallocFromPoolAsync(void **address, size_t size, cudaMemPool_t, cudaStream_t) {
  return allocate("cudaMallocFromPoolAsync", address, size);
}
cudaError_t cudaFree(void *address) { return release(address); }
cudaError_t cudaFreeAsync(void *address, cudaStream_t) { return release(address); }
cudaError_t cudaMallocHost(void **address, size_t size) { return allocate_pinned("cudaMallocHost", address, size); }
cudaError_t cudaHostAlloc(void **address, size_t size, unsigned) {
  return allocate_pinned("cudaHostAlloc", address, size);
}
cudaError_t cudaFreeHost(void *address) {
  free(address);
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total) {
  FAIL_IF_ASKED("cudaMemGetInfo");
  *total = memory_bytes();
  *free_bytes = *total - used[current_device];
  return cudaSuccess;
}
cudaError_t cudaMemPoolCreate(cudaMemPool_t *pool, const cudaMemPoolProps *) {
  *pool = (cudaMemPool_t)handle();
  return cudaSuccess;
}
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t, cudaMemPoolAttr, void *value) {
  *(uint64_t *)value = 0;
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void *to, const void *from, size_t size, cudaMemcpyKind kind) {
  log_copy("cudaMemcpy", size, kind);
  memmove(to, from, size);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, cudaMemcpyKind kind, cudaStream_t) {
  log_copy("cudaMemcpyAsync", size, kind);
  memmove(to, from, size);
  return cudaSuccess;
}
cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t) {
  log_copy("cudaMemcpy2DAsync", width * height, kind);
  for (size_t row = 0; row < height; row++)
    memmove((char *)to + row * to_pitch, (const char *)from + row * from_pitch, width);
  return cudaSuccess;
}
cudaError_t cudaMemcpyFromSymbol(void *to, const void *, size_t size, size_t, cudaMemcpyKind) {
  memset(to, 0, size);
  return cudaSuccess;
}
cudaError_t cudaMemset(void *address, int value, size_t size) {
  memset(address, value, size);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void *address, int value, size_t size, cudaStream_t) {
  memset(address, value, size);
  return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *found, const void *address) {
  std::lock_guard<std::mutex> lock(guard);
  memset(found, 0, sizeof *found);
  found->type = blocks.count((void *)address) ? cudaMemoryTypeDevice : cudaMemoryTypeUnregistered;
  found->devicePointer = (void *)address;
  return cudaSuccess;
}

// --- errors, in CUDA's words

const char *cudaGetErrorName(cudaError_t error) { return error ? "cudaErrorStandIn" : "cudaSuccess"; }
const char *cudaGetErrorString(cudaError_t error) {
  switch (error) {
  case cudaSuccess: return "no error";
  case cudaErrorMemoryAllocation: return "out of memory";
  case cudaErrorInvalidConfiguration: return "invalid configuration argument";
  case cudaErrorInsufficientDriver: return "CUDA driver version is insufficient for CUDA runtime version";
  case cudaErrorDevicesUnavailable: return "CUDA-capable device(s) is/are busy or unavailable";
  case cudaErrorNoDevice: return "no CUDA-capable device is detected";
  case cudaErrorInvalidDevice: return "invalid device ordinal";
  case cudaErrorNoKernelImageForDevice: return "no kernel image is available for execution on the device";
  case cudaErrorIllegalAddress: return "an illegal memory access was encountered";
  default: return "unknown error";
  }
}
cudaError_t cudaGetLastError() {
  cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}
cudaError_t cudaPeekAtLastError() { return last_error; }

// --- kernels

void __cudaRegisterFunction(void **, const char *host, char *, const char *name, int, void *, void *, void *, void *,
                            int *) {
  std::lock_guard<std::mutex> lock(guard);
  kernel_names[host] = name;
}
cudaError_t cudaLibraryGetKernel(cudaKernel_t *kernel, cudaLibrary_t, const char *name) {
  std::lock_guard<std::mutex> lock(guard);
  *kernel = (cudaKernel_t)handle();
  kernel_names[*kernel] = name;
  return cudaSuccess;
}
cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *host) {
  *kernel = (cudaKernel_t)host;
  return cudaSuccess;
}
cudaError_t cudaLibraryLoadData(cudaLibrary_t *library, const void *, cudaJitOption *, void **, unsigned,
                                cudaLibraryOption *, void **, unsigned) {
  *library = (cudaLibrary_t)handle();
  return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *found, const void *) {
  memset(found, 0, sizeof *found);
  found->maxThreadsPerBlock = 1024;
  found->numRegs = 64;
  found->binaryVersion = found->ptxVersion = compute_capability();
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *n, const void *, int, size_t, unsigned) {
  *n = 2;
  return cudaSuccess;
}
cudaError_t cudaLaunchKernel(const void *kernel, dim3 grid, dim3 block, void **, size_t, cudaStream_t) {
  return launch("cudaLaunchKernel", kernel, grid, block);
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **, size_t, cudaStream_t) {
  return launch("__cudaLaunchKernel", kernel, grid, block);
}
cudaError_t cudaLaunchCooperativeKernel(const void *kernel, dim3 grid, dim3 block, void **, size_t, cudaStream_t) {
  return launch("cudaLaunchCooperativeKernel", kernel, grid, block);
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *how, const void *kernel, void **) {
  return launch("cudaLaunchKernelExC", kernel, how->gridDim, how->blockDim);
}
cudaError_t cudaLaunchHostFunc(cudaStream_t, cudaHostFn_t function, void *data) {
  function(data);
  return cudaSuccess;
}

struct Launch {
  dim3 grid, block;
  size_t shared;
  void *stream;
};
static thread_local Launch pushed;
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, void *stream) {
  pushed = {grid, block, shared, stream};
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream) {
  *grid = pushed.grid, *block = pushed.block, *shared = pushed.shared;
  *(void **)stream = pushed.stream;
  return cudaSuccess;
}
void **__cudaRegisterFatBinary(void *) {
  static void *registered;
  return &registered;
}

// --- streams, events and graphs

cudaError_t cudaStreamCreate(cudaStream_t *stream) {
  *stream = (cudaStream_t)handle();
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) { return cudaStreamCreate(stream); }
cudaError_t cudaStreamSynchronize(cudaStream_t) {
  FAIL_IF_ASKED("cudaStreamSynchronize");
  log("cudaStreamSynchronize%s", captured());
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
  *event = (cudaEvent_t)handle();
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t, cudaEvent_t) {
  *ms = 1;
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
  log("cudaStreamBeginCapture");
  FAIL_IF_ASKED("cudaStreamBeginCapture");
  capturing = true;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t *graph) {
  capturing = false;
  log("cudaStreamEndCapture");
  *graph = (cudaGraph_t)handle();
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus *status) {
  *status = capturing ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *instance, cudaGraph_t, unsigned long long) {
  *instance = (cudaGraphExec_t)handle();
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t) {
  log("cudaGraphLaunch %p", (void *)graph);
  return cudaSuccess;
}
cudaError_t cudaGetDriverEntryPointByVersion(const char *, void **function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult *found) {
  *function = nullptr;
  if (found) *found = cudaDriverEntryPointSymbolNotFound;
  return cudaErrorNotSupported;
}
}
