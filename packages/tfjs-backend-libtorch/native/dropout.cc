// An operator of our own, registered with PyTorch's dispatcher beside ATen's, so that JavaScript calls it like those.
//
// ATen draws a Bernoulli mask from a Mersenne Twister, one element after the other on one thread: 9 ns an element, which
// would be a sixth of a training step. Here an element's bits are a hash of its index and the seed, so that all threads
// draw at once, any number of threads draws the same mask, and there is no state.

#define AT_PER_OPERATOR_HEADERS
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <cstdint>

#include "dropout-mask.h"
#include "threads.h"

namespace {

constexpr int64_t kPairsOfAThread = 8192;

/// A mask of the shape of `like`, row after row: 0 with probability `rate`, else 1 / (1 - rate).
at::Tensor dropoutMask(const at::Tensor& like, double rate, int64_t seed, int64_t offset) {
  TORCH_CHECK(rate >= 0 && rate < 1, "the rate must be in [0, 1), got ", rate);
  at::Tensor mask = at::empty(like.sizes(), at::TensorOptions().dtype(at::kFloat));
  float* values = mask.data_ptr<float>();
  const int64_t count = mask.numel();
  const espalier::DropoutMask drawn(rate, seed, offset);
  espalier::parallelFor(0, (count + 1) / 2, kPairsOfAThread, [&](int64_t begin, int64_t end) {
    for (int64_t pair = begin; pair < end; ++pair) {
      const uint64_t bits = drawn.bits(static_cast<uint64_t>(pair));
      values[2 * pair] = (bits & 0xffffffffULL) < drawn.threshold ? 0.0f : drawn.scale;
      if (2 * pair + 1 < count) values[2 * pair + 1] = (bits >> 32) < drawn.threshold ? 0.0f : drawn.scale;
    }
  });
  return mask;
}

}  // namespace

TORCH_LIBRARY(espalier, library) {
  library.def("dropout_mask(Tensor like, float rate, int seed, int offset) -> Tensor");
}

TORCH_LIBRARY_IMPL(espalier, CPU, library) { library.impl("dropout_mask", dropoutMask); }
