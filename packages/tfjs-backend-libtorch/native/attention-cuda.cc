// Attention on CUDA, by ATen's kernels with their own dropout. Called through the dispatcher: nothing of CUDA is linked,
// the kernels are there once libtorch_cuda is loaded. No call waits for the device.

#define AT_PER_OPERATOR_HEADERS
#include <ATen/Context.h>
#include <ATen/ops/_scaled_dot_product_efficient_attention.h>
#include <ATen/ops/_scaled_dot_product_efficient_attention_backward.h>
#include <ATen/ops/_scaled_dot_product_flash_attention.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_backward.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <mutex>

#include "attention.h"

namespace espalier {
namespace {

/// Both kernels read rows of a head in pieces of 16 bytes.
constexpr int64_t kAlignment = 8;
constexpr int64_t kMostFlashChannels = 256;
constexpr int64_t kBiasAlignment = 16;

enum class Kernel { kFlash, kEfficient, kComposed };

/// The same for both passes of a call. Flash attention takes neither a mask nor float32; a mask with it means efficient
/// attention with a bias. Head sizes that are not aligned are composed of products.
Kernel kernelFor(const at::Tensor& packed, const AttentionCall& call) {
  if (call.channels % kAlignment != 0) return Kernel::kComposed;
  const bool flash = packed.scalar_type() == at::kBFloat16 && !call.mask.defined() && call.channels <= kMostFlashChannels;
  return flash ? Kernel::kFlash : Kernel::kEfficient;
}

/// The mask for each head and query, which costs no memory: rows of it must only begin at aligned addresses.
std::optional<at::Tensor> biasOf(const at::Tensor& packed, const AttentionCall& call) {
  if (!call.mask.defined()) return std::nullopt;
  const int64_t stored = (call.sequence + kBiasAlignment - 1) / kBiasAlignment * kBiasAlignment;
  at::Tensor aligned = at::zeros({call.batch, 1, 1, stored}, packed.options());
  const at::Tensor bias = aligned.narrow(3, 0, call.sequence);
  bias.copy_(call.mask);
  return bias.expand({call.batch, call.heads, call.sequence, call.sequence});
}

/// Dropout draws from the device's generator, which is set by the call's seed before: what was drawn earlier never matters.
void seedGenerator(const at::Tensor& packed, const AttentionCall& call) {
  if (call.dropout == 0) return;
  at::Generator generator = at::globalContext().defaultGenerator(packed.device());
  const std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_current_seed(static_cast<uint64_t>(call.seed));
}

/// 64-bit state as 32-bit words, which TensorFlow.js has a type for.
at::Tensor words(const at::Tensor& state, const AttentionCall& call) {
  if (call.dropout == 0) return at::Tensor();
  if (!state.defined()) return at::empty({0}, at::TensorOptions().dtype(at::kInt));
  return state.reshape({-1}).view(at::kInt);
}

/// The words as the kernel gave them: an empty list where there were none.
at::Tensor state(const at::Tensor& words, at::ScalarType type, at::IntArrayRef shape) {
  if (!words.defined() || words.numel() == 0) return at::empty({}, at::TensorOptions().dtype(at::kLong));
  return words.view(type).reshape(shape);
}

}  // namespace

Attended cudaAttention(const at::Tensor& packed, const AttentionCall& call) {
  const auto [q, k, v] = splitHeads(packed, call);
  switch (kernelFor(packed, call)) {
    case Kernel::kFlash: {
      seedGenerator(packed, call);
      const auto result =
          at::_scaled_dot_product_flash_attention(q, k, v, call.dropout, call.causal, false, call.scale);
      return {rowsOf(std::get<0>(result), call), std::get<1>(result), words(std::get<6>(result), call),
              words(std::get<7>(result), call)};
    }
    case Kernel::kEfficient: {
      seedGenerator(packed, call);
      const auto [y, logsumexp, seed, offset] = at::_scaled_dot_product_efficient_attention(
          q, k, v, biasOf(packed, call), true, call.dropout, call.causal, call.scale);
      return {rowsOf(y, call), logsumexp, words(seed, call), words(offset, call)};
    }
    default:
      return composedAttention(packed, call);
  }
}

at::Tensor cudaAttentionBackward(const at::Tensor& dy, const at::Tensor& packed, const AttentionState& saved,
                                 const AttentionCall& call) {
  const auto [q, k, v] = splitHeads(packed, call);
  at::Tensor dq, dk, dv;
  switch (kernelFor(packed, call)) {
    case Kernel::kFlash: {
      // Two words of 64 bits, seed and offset, in the first tensor; the second is not used.
      const at::Tensor seed = state(saved.philoxSeed, at::kUInt64, {2});
      const at::Tensor offset = state(saved.philoxOffset, at::kUInt64, {});
      std::tie(dq, dk, dv) = at::_scaled_dot_product_flash_attention_backward(
          headsOf(dy, call), q, k, v, headsOf(saved.y, call), saved.logsumexp, at::Tensor(), at::Tensor(),
          call.sequence, call.sequence, call.dropout, call.causal, seed, offset, call.scale);
      break;
    }
    case Kernel::kEfficient: {
      const at::Tensor seed = state(saved.philoxSeed, at::kLong, {});
      const at::Tensor offset = state(saved.philoxOffset, at::kLong, {});
      std::tie(dq, dk, dv, std::ignore) = at::_scaled_dot_product_efficient_attention_backward(
          headsOf(dy, call), q, k, v, biasOf(packed, call).value_or(at::Tensor()), headsOf(saved.y, call),
          saved.logsumexp, seed, offset, call.dropout, {true, true, true, false}, call.causal, call.scale);
      break;
    }
    default:
      return composedAttentionBackward(dy, packed, saved, call);
  }
  return at::cat({rowsOf(dq, call), rowsOf(dk, call), rowsOf(dv, call)}, 1);
}

}  // namespace espalier
