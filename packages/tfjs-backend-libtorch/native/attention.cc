// Scaled dot-product attention (Vaswani et al. 2017) on a tensor that holds query, key and value side by side, as one
// product makes them: no head is copied apart before and none together after. Registered with PyTorch's dispatcher, so
// that JavaScript calls it like ATen's operators.

#define AT_PER_OPERATOR_HEADERS
#include "attention.h"

#include <torch/library.h>

namespace espalier {

std::tuple<at::Tensor, at::Tensor, at::Tensor> splitHeads(const at::Tensor& packed, const AttentionCall& call) {
  const at::Tensor parts =
      packed.view({call.batch, call.sequence, 3, call.heads, call.channels}).permute({2, 0, 3, 1, 4});
  return {parts.select(0, 0), parts.select(0, 1), parts.select(0, 2)};
}

at::Tensor headsOf(const at::Tensor& rows, const AttentionCall& call) {
  return rows.view({call.batch, call.sequence, call.heads, call.channels}).transpose(1, 2);
}

at::Tensor rowsOf(const at::Tensor& heads, const AttentionCall& call) {
  return heads.transpose(1, 2).reshape({call.batch * call.sequence, call.heads * call.channels});
}

namespace {

AttentionCall checked(const at::Tensor& packed, const std::optional<at::Tensor>& mask, int64_t heads, int64_t sequence,
                      bool causal, double scale, double dropout, int64_t seed) {
  TORCH_CHECK(heads > 0 && sequence > 0, "heads and sequence must be positive, got ", heads, " and ", sequence);
  TORCH_CHECK(packed.dim() == 2 && packed.size(1) > 0 && packed.size(1) % (3 * heads) == 0,
              "packed must be [batch * sequence, 3 * heads * channels] with ", heads, " heads, got ", packed.sizes());
  TORCH_CHECK(packed.size(0) % sequence == 0, "the rows of packed must be a multiple of the sequence of ", sequence,
              ", got ", packed.size(0));
  TORCH_CHECK(packed.scalar_type() == at::kFloat || packed.scalar_type() == at::kBFloat16,
              "packed must be float32 or bfloat16, got ", packed.scalar_type());
  TORCH_CHECK(dropout >= 0 && dropout < 1, "the rate of dropout must be in [0, 1), got ", dropout);
  const int64_t batch = packed.size(0) / sequence;
  at::Tensor added;
  if (mask.has_value() && mask->defined()) {
    TORCH_CHECK(mask->sizes() == at::IntArrayRef({batch, 1, 1, sequence}), "the mask must be [", batch, ", 1, 1, ",
                sequence, "], got ", mask->sizes());
    added = mask->to(at::kFloat).contiguous();
  }
  return {batch, heads, sequence, packed.size(1) / (3 * heads), added, causal, scale, dropout, seed};
}

void checkRows(const char* name, const at::Tensor& rows, const AttentionCall& call) {
  TORCH_CHECK(rows.sizes() == at::IntArrayRef({call.batch * call.sequence, call.heads * call.channels}), name,
              " must be [", call.batch * call.sequence, ", ", call.heads * call.channels, "], got ", rows.sizes());
}

Attended attend(const at::Tensor& packed, const std::optional<at::Tensor>& mask, int64_t heads, int64_t sequence,
                bool causal, double scale, double dropout, int64_t seed) {
  const AttentionCall call = checked(packed, mask, heads, sequence, causal, scale, dropout, seed);
  const at::Tensor rows = packed.contiguous();
  return packed.is_cpu() ? blockedAttention(rows, call) : cudaAttention(rows, call);
}

at::Tensor attendBackward(const at::Tensor& dy, const at::Tensor& packed, const at::Tensor& y,
                          const at::Tensor& logsumexp, const std::optional<at::Tensor>& mask, int64_t heads,
                          int64_t sequence, bool causal, double scale, double dropout, int64_t seed,
                          const std::optional<at::Tensor>& philoxSeed, const std::optional<at::Tensor>& philoxOffset) {
  const AttentionCall call = checked(packed, mask, heads, sequence, causal, scale, dropout, seed);
  checkRows("dy", dy, call);
  checkRows("y", y, call);
  const at::Tensor rows = packed.contiguous();
  const at::Tensor gradient = dy.to(packed.scalar_type()).contiguous();
  const AttentionState state{y.to(packed.scalar_type()).contiguous(), logsumexp.contiguous(),
                             philoxSeed.value_or(at::Tensor()), philoxOffset.value_or(at::Tensor())};
  if (!packed.is_cpu()) return cudaAttentionBackward(gradient, rows, state, call);
  TORCH_CHECK(logsumexp.sizes() == at::IntArrayRef({call.batch, call.heads, call.sequence}), "logsumexp must be [",
              call.batch, ", ", call.heads, ", ", call.sequence, "], got ", logsumexp.sizes());
  return blockedAttentionBackward(gradient, rows, state, call);
}

}  // namespace
}  // namespace espalier

TORCH_LIBRARY_FRAGMENT(espalier, library) {
  library.def(
      "packed_attention(Tensor packed, Tensor? mask, int heads, int sequence, bool causal, float scale, float dropout, "
      "int seed) -> (Tensor y, Tensor logsumexp, Tensor philox_seed, Tensor philox_offset)");
  library.def(
      "packed_attention_backward(Tensor dy, Tensor packed, Tensor y, Tensor logsumexp, Tensor? mask, int heads, "
      "int sequence, bool causal, float scale, float dropout, int seed, Tensor? philox_seed=None, "
      "Tensor? philox_offset=None) -> Tensor dpacked");
}

TORCH_LIBRARY_IMPL(espalier, CPU, library) {
  library.impl("packed_attention", espalier::attend);
  library.impl("packed_attention_backward", espalier::attendBackward);
}

TORCH_LIBRARY_IMPL(espalier, CUDA, library) {
  library.impl("packed_attention", espalier::attend);
  library.impl("packed_attention_backward", espalier::attendBackward);
}
