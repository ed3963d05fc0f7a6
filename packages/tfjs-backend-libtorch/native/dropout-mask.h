// Which elements dropout drops: a hash of the seed and of the element's index, shared by every kernel that drops, so that
// a fused kernel draws in its loops the very mask that `espalier::dropout_mask` writes out.

#pragma once

#include <cmath>
#include <cstdint>

namespace espalier {

/// The finaliser of SplitMix64: neighbouring counters give unrelated bits.
inline uint64_t mixed(uint64_t counter) {
  counter = (counter ^ (counter >> 30)) * 0xbf58476d1ce4e5b9ULL;
  counter = (counter ^ (counter >> 27)) * 0x94d049bb133111ebULL;
  return counter ^ (counter >> 31);
}

/// The mask of one seed and offset. 64 bits decide two neighbouring elements: the low half that of the even index.
struct DropoutMask {
  static constexpr uint64_t kStride = 0x9e3779b97f4a7c15ULL;

  uint64_t stream;
  /// 32 bits below this drop their element.
  uint64_t threshold;
  /// What a kept element is multiplied with.
  float scale;

  DropoutMask(double rate, int64_t seed, int64_t offset)
      : stream(mixed(mixed(static_cast<uint64_t>(seed)) + static_cast<uint64_t>(offset))),
        threshold(static_cast<uint64_t>(std::llround(rate * 4294967296.0))),
        scale(static_cast<float>(1 / (1 - rate))) {}

  /// The bits of the elements 2 · pair and 2 · pair + 1.
  uint64_t bits(uint64_t pair) const { return mixed(stream + pair * kStride); }
};

}  // namespace espalier
