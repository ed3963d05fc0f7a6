// What the files of attention share: one call's sizes and options, and the implementations to choose from.

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <tuple>

namespace espalier {

/// One call of packed attention. The packed tensor holds query, key and value side by side, each [heads, channels].
struct AttentionCall {
  int64_t batch;
  int64_t heads;
  int64_t sequence;
  int64_t channels;
  /// float32 [batch, 1, 1, sequence], added to the scores; or undefined.
  at::Tensor mask;
  bool causal;
  double scale;
  double dropout;
  int64_t seed;
};

/// y [batch · sequence, heads · channels], logsumexp, and what a GPU's generator drew from (undefined elsewhere).
using Attended = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

/// What the backward pass is given of the forward pass.
struct AttentionState {
  at::Tensor y;
  at::Tensor logsumexp;
  at::Tensor philoxSeed;
  at::Tensor philoxOffset;
};

/// From products and a softmax of ATen's, with the probabilities in memory: for devices and head sizes that no fused
/// kernel takes.
Attended composedAttention(const at::Tensor& packed, const AttentionCall& call);
at::Tensor composedAttentionBackward(const at::Tensor& dy, const at::Tensor& packed, const AttentionState& state,
                                     const AttentionCall& call);

/// On a CPU, by loops of our own.
Attended blockedAttention(const at::Tensor& packed, const AttentionCall& call);
at::Tensor blockedAttentionBackward(const at::Tensor& dy, const at::Tensor& packed, const AttentionState& state,
                                    const AttentionCall& call);

/// On CUDA, by ATen's kernels.
Attended cudaAttention(const at::Tensor& packed, const AttentionCall& call);
at::Tensor cudaAttentionBackward(const at::Tensor& dy, const at::Tensor& packed, const AttentionState& saved,
                                 const AttentionCall& call);

/// Query, key and value of a packed tensor as views [batch, heads, sequence, channels].
std::tuple<at::Tensor, at::Tensor, at::Tensor> splitHeads(const at::Tensor& packed, const AttentionCall& call);

/// [batch · sequence, heads · channels] as a view [batch, heads, sequence, channels].
at::Tensor headsOf(const at::Tensor& rows, const AttentionCall& call);

/// [batch, heads, sequence, channels] as [batch · sequence, heads · channels]: a view where the memory allows it.
at::Tensor rowsOf(const at::Tensor& heads, const AttentionCall& call);

}  // namespace espalier
