// The dropout mask of `dropout.cc` on a GPU: drawn by ATen's own generator there, which is counter-based (Philox), in one
// pass over memory, where the CPU's hash written as tensor operations would take a dozen.
//
// An element is a function of seed, offset, its place, and how a GPU of this model divides a tensor among its
// multiprocessors: the same on every GPU of one model, in every process, whatever was drawn before. It is not the CPU's mask.

#define AT_PER_OPERATOR_HEADERS
#include <ATen/Context.h>
#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <cstdint>
#include <optional>

namespace {

/// A generator of its own for each mask. Both numbers have 32 bits: together they are Philox's key of 64.
std::optional<at::Generator> generatorFor(const c10::Device& device, int64_t seed, int64_t offset) {
  if (device.is_meta()) return std::nullopt;
  at::Generator generator = at::globalContext().defaultGenerator(device).clone();
  generator.set_current_seed((static_cast<uint64_t>(seed) << 32) | (static_cast<uint64_t>(offset) & 0xffffffffULL));
  return generator;
}

/// A mask of the shape of `like`, row after row: 0 with probability `rate`, else 1 / (1 - rate).
at::Tensor deviceDropoutMask(const at::Tensor& like, double rate, int64_t seed, int64_t offset) {
  TORCH_CHECK(rate >= 0 && rate < 1, "the rate must be in [0, 1), got ", rate);
  at::Tensor mask = at::empty(like.sizes(), at::TensorOptions().dtype(at::kFloat).device(like.device()));
  return mask.bernoulli_(1 - rate, generatorFor(like.device(), seed, offset)).div_(1 - rate);
}

}  // namespace

TORCH_LIBRARY_IMPL(espalier, CUDA, library) { library.impl("dropout_mask", deviceDropoutMask); }
TORCH_LIBRARY_IMPL(espalier, Meta, library) { library.impl("dropout_mask", deviceDropoutMask); }
