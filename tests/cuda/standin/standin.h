// What the stand-in libraries share: settings from the environment, read at every call, and the log that libcudart
// keeps.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

extern "C" void standin_log(const char *line);
extern "C" size_t standin_used(int device);

inline long setting(const char *name, long otherwise) {
  const char *text = getenv(name);
  return text ? atol(text) : otherwise;
}
inline int n_devices() { return setting("STANDIN_GPUS", 1); }
inline size_t memory_bytes() { return setting("STANDIN_MEMORY", 85000000000); }
inline int compute_capability() { return setting("STANDIN_CAPABILITY", 90); }
inline const char *const device_name = "Stand-in GPU";

// The error that STANDIN_FAIL ("cudaSetDevice=46 cublasCreate_v2=3") gives to a call; 0 for none.
inline int failure_of(const char *call) {
  const char *text = getenv("STANDIN_FAIL");
  const size_t length = strlen(call);
  while (text && *text) {
    if (!strncmp(text, call, length) && text[length] == '=') return atoi(text + length + 1);
    text = strchr(text, ' ');
    if (text) text++;
  }
  return 0;
}

// An object that is only ever passed around.
inline void *handle() { return calloc(1, 64); }

// A function that does nothing and succeeds, whatever its arguments are.
#define SUCCEEDS(name)                                                                                                 \
  int name(...) { return 0; }
