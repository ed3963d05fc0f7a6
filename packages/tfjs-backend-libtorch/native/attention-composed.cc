#define AT_PER_OPERATOR_HEADERS
#include <ATen/Context.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>

#include <limits>

#include "attention.h"

namespace espalier {
namespace {

at::Tensor scoresOf(const at::Tensor& q, const at::Tensor& k, const AttentionCall& call) {
  at::Tensor scores = at::matmul(q, k.transpose(-2, -1)).to(at::kFloat) * call.scale;
  if (call.mask.defined()) scores = scores + call.mask;
  if (!call.causal) return scores;
  const at::Tensor positions = at::arange(call.sequence, q.options().dtype(at::kInt));
  const at::Tensor later = positions.unsqueeze(0) > positions.unsqueeze(1);
  return scores.masked_fill(later, -std::numeric_limits<double>::infinity());
}

/// 0 or 1 / (1 - rate) for each probability, by the seed alone.
at::Tensor keepMask(const at::Tensor& probabilities, const AttentionCall& call) {
  if (probabilities.is_cpu()) {
    static const auto draw = c10::Dispatcher::singleton()
                                 .findSchemaOrThrow("espalier::dropout_mask", "")
                                 .typed<at::Tensor(const at::Tensor&, double, int64_t, int64_t)>();
    return draw.call(probabilities, call.dropout, call.seed, 0);
  }
  at::Generator generator = at::globalContext().defaultGenerator(probabilities.device()).clone();
  generator.set_current_seed(static_cast<uint64_t>(call.seed));
  return at::empty_like(probabilities).bernoulli_(1 - call.dropout, generator).div_(1 - call.dropout);
}

}  // namespace

Attended composedAttention(const at::Tensor& packed, const AttentionCall& call) {
  const auto [q, k, v] = splitHeads(packed, call);
  const at::Tensor scores = scoresOf(q, k, call);
  at::Tensor probabilities = at::softmax(scores, -1);
  if (call.dropout > 0) probabilities = probabilities * keepMask(probabilities, call);
  const at::Tensor y = at::matmul(probabilities.to(packed.scalar_type()), v);
  return {rowsOf(y, call), at::logsumexp(scores, -1), at::Tensor(), at::Tensor()};
}

at::Tensor composedAttentionBackward(const at::Tensor& dy, const at::Tensor& packed, const AttentionState&,
                                     const AttentionCall& call) {
  const auto [q, k, v] = splitHeads(packed, call);
  const at::Tensor gradient = headsOf(dy, call);
  const at::ScalarType type = packed.scalar_type();
  const at::Tensor probabilities = at::softmax(scoresOf(q, k, call), -1);
  at::Tensor dropped = probabilities;
  at::Tensor weighted = at::matmul(gradient, v.transpose(-2, -1)).to(at::kFloat);
  if (call.dropout > 0) {
    const at::Tensor keep = keepMask(probabilities, call);
    dropped = probabilities * keep;
    weighted = weighted * keep;
  }
  weighted = weighted * probabilities;
  const at::Tensor dScores = ((weighted - probabilities * weighted.sum(-1, true)) * call.scale).to(type);
  const at::Tensor dq = at::matmul(dScores, k);
  const at::Tensor dk = at::matmul(dScores.transpose(-2, -1), q);
  const at::Tensor dv = at::matmul(dropped.to(type).transpose(-2, -1), gradient);
  return at::stack({dq, dk, dv}, 0).permute({1, 3, 0, 2, 4}).reshape(packed.sizes());
}

}  // namespace espalier
