// cuRAND: the CUDA provider is linked with it; no graph of a bundle draws random numbers.
#include "standin.h"

extern "C" {
int curandCreateGenerator(void **created, int) {
  *created = handle();
  return 0;
}
SUCCEEDS(curandDestroyGenerator)
SUCCEEDS(curandSetPseudoRandomGeneratorSeed)
SUCCEEDS(curandSetStream)
}
