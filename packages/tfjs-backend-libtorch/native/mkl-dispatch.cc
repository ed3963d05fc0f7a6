// Which of its code paths MKL takes for a product of matrices.
//
// MKL asks a function of its own whether the processor is Intel's before it looks at the instructions that there are, and
// takes a slower path elsewhere. The addon comes before libtorch in the order in which symbols are looked up, so that this
// function is asked instead. On an AMD EPYC (Zen 4) the products of a BERT 12×256 step ran at 200 instead of 175 GFLOP/s
// on two cores. What the processor can do is still MKL's to find out. `ESPALIER_MKL_DISPATCH=vendor` leaves it as it was.

#include <cstdlib>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>

namespace {

bool isIntel() {
  unsigned highest, b, c, d;
  if (__get_cpuid(0, &highest, &b, &c, &d) == 0) return false;
  char vendor[12];
  std::memcpy(vendor, &b, 4);
  std::memcpy(vendor + 4, &d, 4);
  std::memcpy(vendor + 8, &c, 4);
  return std::memcmp(vendor, "GenuineIntel", sizeof(vendor)) == 0;
}

bool byInstructions() {
  const char* choice = std::getenv("ESPALIER_MKL_DISPATCH");
  return choice == nullptr || std::strcmp(choice, "vendor") != 0;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int mkl_serv_intel_cpu_true() {
  static const int answer = byInstructions() || isIntel() ? 1 : 0;
  return answer;
}
#endif
