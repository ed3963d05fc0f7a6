// The CPU's attention: heads are dealt out to threads, and where there are fewer heads than threads can use, blocks of
// queries of the forward pass, too.

#define AT_PER_OPERATOR_HEADERS
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include "attention-amx.h"
#include "attention-blocked.h"
#include "attention.h"
#include "threads.h"

namespace espalier {
namespace {

/// Tasks of a thread, so that none waits long for the last one.
constexpr int64_t kTasksOfAThread = 4;

template <typename T>
T* elements(const at::Tensor& tensor) {
  return static_cast<T*>(tensor.data_ptr());
}

template <typename T>
Head<T> headOf(const at::Tensor& packed, const AttentionCall& call, const DropoutMask* dropout, int64_t index) {
  const int64_t width = call.heads * call.channels;
  const int64_t row = index / call.heads;
  const T* query = elements<T>(packed) + row * call.sequence * 3 * width + index % call.heads * call.channels;
  const float* mask = call.mask.defined() ? elements<float>(call.mask) + row * call.sequence : nullptr;
  return {query,         query + width, query + 2 * width, 3 * width,
          width,         call.sequence, call.channels,     mask,
          call.causal,   static_cast<float>(call.scale),   dropout,
          index * call.sequence * call.sequence};
}

/// Where a head's first row begins in a tensor [batch · sequence, heads · channels].
int64_t firstElement(const AttentionCall& call, int64_t index) {
  return index / call.heads * call.sequence * call.heads * call.channels + index % call.heads * call.channels;
}

/// One head by vectors.
template <typename T>
struct Vectors {
  using Element = T;

  static int64_t forwardFloats(const AttentionCall& call) {
    return Padded(call.sequence, call.channels).forwardFloats();
  }
  static int64_t backwardFloats(const AttentionCall& call) {
    return Padded(call.sequence, call.channels).backwardFloats();
  }
  template <typename... Arguments>
  static void forward(Arguments&&... arguments) {
    attendHead(std::forward<Arguments>(arguments)...);
  }
  template <typename... Arguments>
  static void backward(Arguments&&... arguments) {
    attendHeadBackward(std::forward<Arguments>(arguments)...);
  }
};

#if defined(ESPALIER_AMX)
/// One head by tiles.
struct Tiles {
  using Element = Bfloat16;

  static int64_t forwardFloats(const AttentionCall& call) {
    return AmxPadded(call.sequence, call.channels).forwardFloats();
  }
  static int64_t backwardFloats(const AttentionCall& call) {
    return AmxPadded(call.sequence, call.channels).backwardFloats();
  }
  template <typename... Arguments>
  static void forward(Arguments&&... arguments) {
    const AmxTiles tiles;
    attendHeadAmx(std::forward<Arguments>(arguments)...);
  }
  template <typename... Arguments>
  static void backward(Arguments&&... arguments) {
    const AmxTiles tiles;
    attendHeadBackwardAmx(std::forward<Arguments>(arguments)...);
  }
};
#endif

/// Calls `run` with the implementation for these sizes, by the sizes alone: both passes of a call choose the same.
template <typename Run>
void withImplementation(const at::Tensor& packed, const AttentionCall& call, const Run& run) {
  if (packed.scalar_type() == at::kFloat) return run(Vectors<float>());
#if defined(ESPALIER_AMX)
  // Shorter ones leave the tiles half empty.
  constexpr int64_t kShortestForTiles = 64;
  if (call.sequence >= kShortestForTiles && amxAllowed()) return run(Tiles());
#endif
  run(Vectors<Bfloat16>());
}

template <typename How>
void attendAll(const at::Tensor& packed, const AttentionCall& call, const at::Tensor& y, const at::Tensor& logsumexp) {
  using T = typename How::Element;
  const DropoutMask drawn(call.dropout, call.seed, 0);
  const int64_t heads = call.batch * call.heads;
  const int64_t blocks = (call.sequence + kQueryBlock - 1) / kQueryBlock;
  const int64_t wanted = kTasksOfAThread * at::get_num_threads();
  const int64_t parts = heads >= wanted ? 1 : std::min(blocks, (wanted + heads - 1) / std::max<int64_t>(heads, 1));
  parallelFor(0, heads * parts, 1, [&](int64_t begin, int64_t end) {
    Scratch scratch(How::forwardFloats(call));
    for (int64_t task = begin; task < end; ++task) {
      const int64_t index = task / parts;
      const int64_t part = task % parts;
      const auto head = headOf<T>(packed, call, call.dropout > 0 ? &drawn : nullptr, index);
      How::forward(head, blocks * part / parts * kQueryBlock,
                 std::min(blocks * (part + 1) / parts * kQueryBlock, call.sequence), scratch,
                 elements<T>(y) + firstElement(call, index), elements<float>(logsumexp) + index * call.sequence);
    }
  });
}

template <typename How>
void attendAllBackward(const at::Tensor& dy, const at::Tensor& packed, const AttentionState& state,
                       const AttentionCall& call, const at::Tensor& dpacked) {
  using T = typename How::Element;
  const DropoutMask drawn(call.dropout, call.seed, 0);
  const int64_t width = call.heads * call.channels;
  parallelFor(0, call.batch * call.heads, 1, [&](int64_t begin, int64_t end) {
    Scratch scratch(How::backwardFloats(call));
    for (int64_t index = begin; index < end; ++index) {
      const auto head = headOf<T>(packed, call, call.dropout > 0 ? &drawn : nullptr, index);
      T* dQuery = elements<T>(dpacked) + (head.query - elements<T>(packed));
      How::backward(head, elements<T>(dy) + firstElement(call, index),
                         elements<T>(state.y) + firstElement(call, index),
                         elements<float>(state.logsumexp) + index * call.sequence, scratch, dQuery, dQuery + width,
                         dQuery + 2 * width);
    }
  });
}

}  // namespace

Attended blockedAttention(const at::Tensor& packed, const AttentionCall& call) {
  const at::Tensor y = at::empty({call.batch * call.sequence, call.heads * call.channels}, packed.options());
  const at::Tensor logsumexp =
      at::empty({call.batch, call.heads, call.sequence}, packed.options().dtype(at::kFloat));
  withImplementation(packed, call, [&](auto how) { attendAll<decltype(how)>(packed, call, y, logsumexp); });
  return {y, logsumexp, at::Tensor(), at::Tensor()};
}

at::Tensor blockedAttentionBackward(const at::Tensor& dy, const at::Tensor& packed, const AttentionState& state,
                                    const AttentionCall& call) {
  const at::Tensor dpacked = at::empty(packed.sizes(), packed.options());
  withImplementation(packed, call,
                     [&](auto how) { attendAllBackward<decltype(how)>(dy, packed, state, call, dpacked); });
  return dpacked;
}

}  // namespace espalier
