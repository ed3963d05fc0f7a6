// Attention of one head on a CPU, in blocks that stay in its caches.
//
// A head's query, key and value are read once from the packed layout into small scratch rows, padded with zeros to whole
// vectors; everything after is register-blocked products over these. Scores live for one block of queries only. The
// backward pass computes them, and dropout's mask, again. A head is one thread's work from first to last, and a row of
// scores never depends on how the work was divided, so the results are the same for any number of threads.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <new>

#include "attention-vectors.h"
#include "dropout-mask.h"

namespace espalier {

constexpr int64_t kTileRows = 8;
constexpr int64_t kQueryBlock = 64;
constexpr int64_t kKeyBlock = 128;
/// Keys lie transposed in panels of two vectors, so that a product's inner loop walks straight through memory.
constexpr int64_t kPanel = 2 * kLanes;
constexpr float kLog2E = 1.44269504088896340736f;
constexpr float kLn2 = 0.69314718055994530942f;
/// Below this a row of scores sees nothing but padding; the logarithm of its sum has no digits left for the sum.
constexpr float kAllPadding = -1e6f;

inline int64_t roundedUp(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

/// One head of a call, of element type T.
template <typename T>
struct Head {
  /// The first query, key, value, output and gradient of this head; rows lie `packedStride` and `stride` apart.
  const T* query;
  const T* key;
  const T* value;
  int64_t packedStride;
  int64_t stride;
  int64_t sequence;
  int64_t channels;
  /// Added to the scores of each key, or null.
  const float* mask;
  bool causal;
  float scale;
  /// Null where nothing is dropped.
  const DropoutMask* dropout;
  /// Index of the head's first probability among all of the call: [batch, heads, sequence, sequence].
  int64_t firstProbability;
};

/// Memory of one thread, taken once and cut into pieces.
class Scratch {
 public:
  /// Room for `count` floats, in whole cache lines.
  float* take(int64_t count) {
    float* piece = next_;
    next_ += roundedUp(count, 16) + kGap;
    return piece;
  }
  static int64_t sizeOf(int64_t count) { return roundedUp(count, 16) + kGap; }

  explicit Scratch(int64_t floats)
      : memory_(static_cast<float*>(::operator new(sizeof(float) * floats, std::align_val_t(64)))), next_(memory_.get()) {}
  void restart() { next_ = memory_.get(); }

 private:
  struct Free {
    void operator()(float* memory) const { ::operator delete(memory, std::align_val_t(64)); }
  };
  /// Between pieces, so that those of a power of two in size do not meet in the same sets of a cache.
  static constexpr int64_t kGap = 32;
  std::unique_ptr<float, Free> memory_;
  float* next_;
};

/// c[rows][vectors] (+)= a · b. An element of a is a[row · stride + k], or a[k · stride + row] where it lies transposed.
template <int kRows, int kVectors, bool kTransposed, bool kAccumulate>
inline void multiplyTile(const float* a, int64_t aStride, const float* b, int64_t bStride, float* c, int64_t cStride,
                         int64_t depth) {
  Floats sums[kRows][kVectors];
  ESPALIER_UNROLL
  for (int row = 0; row < kRows; ++row) {
    ESPALIER_UNROLL
    for (int vector = 0; vector < kVectors; ++vector)
      sums[row][vector] = kAccumulate ? load(c + row * cStride + vector * kLanes) : Floats{};
  }
  for (int64_t k = 0; k < depth; ++k) {
    Floats right[kVectors];
    ESPALIER_UNROLL
    for (int vector = 0; vector < kVectors; ++vector) right[vector] = load(b + k * bStride + vector * kLanes);
    ESPALIER_UNROLL
    for (int row = 0; row < kRows; ++row) {
      const float left = kTransposed ? a[k * aStride + row] : a[row * aStride + k];
      ESPALIER_UNROLL
      for (int vector = 0; vector < kVectors; ++vector) sums[row][vector] += left * right[vector];
    }
  }
  ESPALIER_UNROLL
  for (int row = 0; row < kRows; ++row) {
    ESPALIER_UNROLL
    for (int vector = 0; vector < kVectors; ++vector) store(c + row * cStride + vector * kLanes, sums[row][vector]);
  }
}

/// Eight rows of c, `columns` of them (whole vectors), as two vectors at a time. `bPanel` is how far apart panels of two
/// vectors of b are.
template <bool kTransposed, bool kAccumulate>
inline void multiplyRows(const float* a, int64_t aStride, const float* b, int64_t bStride, int64_t bPanel, float* c,
                         int64_t cStride, int64_t columns, int64_t depth) {
#if defined(__AVX__) && !defined(__AVX512F__)
  constexpr int kRows = 4;  // sixteen registers hold no more
#else
  constexpr int kRows = 8;
#endif
  int64_t column = 0;
  for (; column + kPanel <= columns; column += kPanel, b += bPanel) {
    ESPALIER_UNROLL
    for (int row = 0; row < kTileRows; row += kRows)
      multiplyTile<kRows, 2, kTransposed, kAccumulate>(a + row * (kTransposed ? 1 : aStride), aStride, b, bStride,
                                                       c + row * cStride + column, cStride, depth);
  }
  if (column < columns)
    multiplyTile<kTileRows, 1, kTransposed, kAccumulate>(a, aStride, b, bStride, c + column, cStride, depth);
}

/// Rows of one head as float32 rows of `padded` channels, the rest zero, `rows` of them up to `paddedRows`.
template <typename T>
inline void readRows(const T* from, int64_t stride, int64_t rows, int64_t channels, float* to, int64_t padded,
                     int64_t paddedRows) {
  const int64_t whole = channels / kLanes * kLanes;
  for (int64_t row = 0; row < rows; ++row, from += stride, to += padded) {
    for (int64_t i = 0; i < whole; i += kLanes) store(to + i, load(from + i));
    for (int64_t i = whole; i < padded; ++i) to[i] = i < channels ? single(from[i]) : 0.0f;
  }
  std::memset(to, 0, sizeof(float) * std::max<int64_t>(0, paddedRows - rows) * padded);
}

template <typename T>
inline void writeRow(const float* from, float factor, int64_t channels, T* to) {
  const int64_t whole = channels / kLanes * kLanes;
  for (int64_t i = 0; i < whole; i += kLanes) store(to + i, load(from + i) * factor);
  for (int64_t i = whole; i < channels; ++i) round(from[i] * factor, to + i);
}

/// Rows of float32 [paddedRows][padded] as panels [padded][kPanel] of transposed columns.
inline void transposeIntoPanels(const float* rows, int64_t paddedRows, int64_t padded, float* panels) {
  for (int64_t row = 0; row < paddedRows; row += kLanes)
    for (int64_t channel = 0; channel < padded; channel += kLanes)
      transposeBlock(rows + row * padded + channel, padded,
                     panels + row / kPanel * kPanel * padded + channel * kPanel + row % kPanel, kPanel);
}

/// The mask's 32 bits for `count` probabilities from index `first` on, rounded up to whole vectors.
/// @returns where in `words` they start: an odd index is the upper half of its pair
inline const uint32_t* drawBits(const DropoutMask& dropout, int64_t first, int64_t count, uint32_t* words) {
  const Ints lanes = positions();
  Pairs steps{};
  for (int pair = 0; pair < kLanes / 2; ++pair) steps[pair] = static_cast<uint64_t>(lanes[pair]) * DropoutMask::kStride;
  Pairs counter = steps + (dropout.stream + static_cast<uint64_t>(first >> 1) * DropoutMask::kStride);
  const int64_t drawn = count + (first & 1);
  for (int64_t index = 0; index < drawn; index += kLanes) {
    Pairs bits = (counter ^ (counter >> 30)) * 0xbf58476d1ce4e5b9ULL;
    bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebULL;
    bits ^= bits >> 31;
    std::memcpy(words + index, &bits, sizeof(bits));
    counter += static_cast<uint64_t>(kLanes / 2) * DropoutMask::kStride;
  }
  return words + (first & 1);
}

inline Words loadWords(const uint32_t* from) {
  Words words;
  std::memcpy(&words, from, sizeof(words));
  return words;
}

/// 32 bits below this drop their element.
inline uint32_t thresholdOf(const DropoutMask& dropout) {
  return static_cast<uint32_t>(std::min<uint64_t>(dropout.threshold, 0xffffffffULL));
}

/// The largest score of a row, and the sum of 2^(score - largest); of the backward pass, that sum's logarithm.
struct RowSum {
  float largest;
  float sum;
};

/// Scores of one row, times a factor in units of log 2, become unnormalised probabilities; dropped ones become 0 after
/// they counted. Only the first `visible` of `columns` are seen. `scores` and `to` may be the same.
template <typename To>
inline RowSum softmaxRow(float* scores, float factor, int64_t visible, int64_t columns, const float* mask,
                         const uint32_t* bits, uint32_t threshold, To* to) {
  const Floats hidden = all(-std::numeric_limits<float>::infinity());
  const Ints lanes = positions();
  const int64_t whole = visible / kLanes * kLanes;
  Floats most = hidden;
  for (int64_t key = 0; key < whole; key += kLanes) {
    Floats score = load(scores + key) * factor;
    if (mask != nullptr) score += load(mask + key);
    store(scores + key, score);
    most = larger(most, score);
  }
  if (whole < visible) {
    Floats score = load(scores + whole) * factor;
    if (mask != nullptr) score += load(mask + whole);
    score = lanes < static_cast<int32_t>(visible - whole) ? score : hidden;
    store(scores + whole, score);
    most = larger(most, score);
  }
  const float top = largest(most);
  Floats total{};
  const int64_t seen = roundedUp(visible, kLanes);
  for (int64_t key = 0; key < seen; key += kLanes) {
    Floats probability = exp2(load(scores + key) - top);
    total += probability;
    if (bits != nullptr) probability = loadWords(bits + key) < threshold ? Floats{} : probability;
    store(to + key, probability);
  }
  for (int64_t key = seen; key < columns; key += kLanes) store(to + key, Floats{});
  return {top, sum(total)};
}

/// Sizes of one head's scratch.
struct Padded {
  int64_t channels;
  int64_t keys;
  int64_t queries;
  /// Between rows of scores: never a multiple of a page, or the rows would meet in the same sets of a cache.
  int64_t scoreStride;

  Padded(int64_t sequence, int64_t channels)
      : channels(roundedUp(channels, kLanes)),
        keys(roundedUp(sequence, kPanel)),
        queries(roundedUp(sequence, kTileRows)),
        scoreStride(keys + 16) {}

  int64_t forwardFloats() const {
    return 2 * Scratch::sizeOf(keys * channels) + 2 * Scratch::sizeOf(kQueryBlock * channels) +
           Scratch::sizeOf(kQueryBlock * scoreStride) + 2 * Scratch::sizeOf(keys + 2 * kLanes);
  }
  int64_t backwardFloats() const {
    return 6 * Scratch::sizeOf(keys * channels) + 3 * Scratch::sizeOf(roundedUp(queries, kQueryBlock) * channels) +
           2 * Scratch::sizeOf(kQueryBlock * (kKeyBlock + 16)) + 2 * Scratch::sizeOf(keys + 2 * kLanes) +
           Scratch::sizeOf(2 * queries) + Scratch::sizeOf(queries);
  }
};

/// The mask in units of log 2 with a zero behind its last key.
inline const float* readMask(const float* mask, int64_t sequence, int64_t keys, Scratch& scratch) {
  float* scaled = scratch.take(keys);
  if (mask == nullptr) return nullptr;
  for (int64_t key = 0; key < keys; ++key) scaled[key] = key < sequence ? mask[key] * kLog2E : 0.0f;
  return scaled;
}

/// The forward pass of one head, for the queries from `begin` (a multiple of kQueryBlock) to `end`.
template <typename T>
void attendHead(const Head<T>& head, int64_t begin, int64_t end, Scratch& scratch, T* y, float* logsumexp) {
  const Padded padded(head.sequence, head.channels);
  scratch.restart();
  float* value = scratch.take(padded.keys * padded.channels);
  float* keyPanels = scratch.take(padded.keys * padded.channels);
  float* query = scratch.take(kQueryBlock * padded.channels);
  float* output = scratch.take(kQueryBlock * padded.channels);
  float* scores = scratch.take(kQueryBlock * padded.scoreStride);
  uint32_t* words = reinterpret_cast<uint32_t*>(scratch.take(padded.keys + 2 * kLanes));
  const float* mask = readMask(head.mask, head.sequence, padded.keys, scratch);
  const int64_t keys = head.causal ? std::min(end, head.sequence) : head.sequence;
  // The rows of the keys are needed only to be transposed: they lie where the values come after.
  const int64_t paddedKeys = roundedUp(keys, kLanes);
  readRows(head.key, head.packedStride, keys, head.channels, value, padded.channels, paddedKeys);
  transposeIntoPanels(value, paddedKeys, padded.channels, keyPanels);
  readRows(head.value, head.packedStride, keys, head.channels, value, padded.channels, paddedKeys);

  const uint32_t threshold = head.dropout ? thresholdOf(*head.dropout) : 0;
  const float keptScale = head.dropout ? head.dropout->scale : 1.0f;
  for (int64_t first = begin; first < end; first += kQueryBlock) {
    const int64_t rows = std::min(kQueryBlock, end - first);
    const int64_t tiles = roundedUp(rows, kTileRows);
    const int64_t seen = head.causal ? std::min(first + rows, keys) : keys;
    readRows(head.query + first * head.packedStride, head.packedStride, rows, head.channels, query, padded.channels,
             tiles);
    // The keys that the eight queries of a tile see, in whole vectors.
    const auto columnsOf = [&](int64_t tile) {
      return roundedUp(head.causal ? std::min(first + tile + kTileRows, seen) : seen, kLanes);
    };
    for (int64_t key = 0; key < seen; key += kKeyBlock)
      for (int64_t tile = 0; tile < tiles; tile += kTileRows) {
        const int64_t columns = std::min(columnsOf(tile) - key, kKeyBlock);
        if (columns > 0)
          multiplyRows<false, false>(query + tile * padded.channels, padded.channels, keyPanels + key * padded.channels,
                                     kPanel, kPanel * padded.channels, scores + tile * padded.scoreStride + key,
                                     padded.scoreStride, columns, head.channels);
      }
    float norms[kQueryBlock];
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t position = first + row;
      const int64_t visible = head.causal ? std::min(position + 1, seen) : seen;
      const uint32_t* bits =
          head.dropout ? drawBits(*head.dropout, head.firstProbability + position * head.sequence, visible, words)
                       : nullptr;
      float* rowScores = scores + row * padded.scoreStride;
      const RowSum total = softmaxRow(rowScores, head.scale * kLog2E, visible,
                                      columnsOf(row / kTileRows * kTileRows), mask, bits, threshold, rowScores);
      norms[row] = keptScale / total.sum;
      logsumexp[position] = (total.largest + std::log2(total.sum)) * kLn2;
    }
    for (int64_t key = 0; key < seen; key += kKeyBlock)
      for (int64_t tile = 0; tile < tiles; tile += kTileRows) {
        const int64_t depth = std::min(columnsOf(tile) - key, kKeyBlock);
        if (depth <= 0) continue;
        const float* left = scores + tile * padded.scoreStride + key;
        const float* right = value + key * padded.channels;
        float* sums = output + tile * padded.channels;
        if (key == 0)
          multiplyRows<false, false>(left, padded.scoreStride, right, padded.channels, kPanel, sums, padded.channels,
                                     padded.channels, depth);
        else
          multiplyRows<false, true>(left, padded.scoreStride, right, padded.channels, kPanel, sums, padded.channels,
                                    padded.channels, depth);
      }
    for (int64_t row = 0; row < rows; ++row)
      writeRow(output + row * padded.channels, norms[row], head.channels, y + (first + row) * head.stride);
  }
}

/// What the backward pass subtracts from a row's scores (base 2): the largest score and the logarithm of the sum over it.
/// One number, unless the row sees only padding: its scores are then so large that the sum got lost beside them.
template <typename T>
RowSum normOf(const Head<T>& head, int64_t row, float logsumexp, const float* mask) {
  if (logsumexp >= kAllPadding) return {0, logsumexp * kLog2E};
  const int64_t visible = head.causal ? row + 1 : head.sequence;
  const T* query = head.query + row * head.packedStride;
  const auto score = [&](int64_t key) {
    float product = 0;
    for (int64_t i = 0; i < head.channels; ++i)
      product += single(query[i]) * single(head.key[key * head.packedStride + i]);
    return product * (head.scale * kLog2E) + (mask ? mask[key] : 0.0f);
  };
  RowSum result{-std::numeric_limits<float>::infinity(), 0};
  for (int64_t key = 0; key < visible; ++key) result.largest = std::max(result.largest, score(key));
  for (int64_t key = 0; key < visible; ++key) result.sum += std::exp2(score(key) - result.largest);
  result.sum = std::log2(result.sum);
  return result;
}

/// The sum over keys of each probability times its gradient, which is the output times its gradient.
template <typename T>
float deltaOf(const T* y, const T* dy, int64_t channels) {
  const int64_t whole = channels / kLanes * kLanes;
  Floats products{};
  for (int64_t i = 0; i < whole; i += kLanes) products += load(y + i) * load(dy + i);
  float delta = sum(products);
  for (int64_t i = whole; i < channels; ++i) delta += single(y[i]) * single(dy[i]);
  return delta;
}

/// The backward pass of one head. `dQuery`, `dKey` and `dValue` are rows of the gradient's packed layout.
template <typename T>
void attendHeadBackward(const Head<T>& head, const T* dy, const T* y, const float* logsumexp, Scratch& scratch,
                        T* dQuery, T* dKey, T* dValue) {
  const Padded padded(head.sequence, head.channels);
  const int64_t sequence = head.sequence;
  const int64_t width = padded.channels;
  const int64_t allRows = roundedUp(padded.queries, kQueryBlock);
  scratch.restart();
  float* key = scratch.take(padded.keys * width);
  float* keyPanels = scratch.take(padded.keys * width);
  float* value = scratch.take(padded.keys * width);
  float* valuePanels = scratch.take(padded.keys * width);
  float* keySums = scratch.take(padded.keys * width);
  float* valueSums = scratch.take(padded.keys * width);
  float* query = scratch.take(allRows * width);
  float* gradient = scratch.take(allRows * width);
  float* querySums = scratch.take(allRows * width);
  constexpr int64_t kStride = kKeyBlock + 16;
  float* probabilities = scratch.take(kQueryBlock * kStride);
  float* dScores = scratch.take(kQueryBlock * kStride);
  uint32_t* words = reinterpret_cast<uint32_t*>(scratch.take(padded.keys + 2 * kLanes));
  const float* mask = readMask(head.mask, sequence, padded.keys, scratch);
  RowSum* norms = reinterpret_cast<RowSum*>(scratch.take(2 * padded.queries));
  float* deltas = scratch.take(padded.queries);

  readRows(head.key, head.packedStride, sequence, head.channels, key, width, padded.keys);
  transposeIntoPanels(key, padded.keys, width, keyPanels);
  readRows(head.value, head.packedStride, sequence, head.channels, value, width, padded.keys);
  transposeIntoPanels(value, padded.keys, width, valuePanels);
  readRows(head.query, head.packedStride, sequence, head.channels, query, width, allRows);
  readRows(dy, head.stride, sequence, head.channels, gradient, width, allRows);
  std::memset(keySums, 0, sizeof(float) * padded.keys * width);
  std::memset(valueSums, 0, sizeof(float) * padded.keys * width);

  for (int64_t row = 0; row < sequence; ++row) {
    norms[row] = normOf(head, row, logsumexp[row], mask);
    deltas[row] = deltaOf(y + row * head.stride, dy + row * head.stride, head.channels);
  }

  const float toLog2 = head.scale * kLog2E;
  const uint32_t threshold = head.dropout ? thresholdOf(*head.dropout) : 0;
  const float keptScale = head.dropout ? head.dropout->scale : 1.0f;
  const Ints lanes = positions();
  for (int64_t first = 0; first < sequence; first += kQueryBlock) {
    const int64_t rows = std::min(kQueryBlock, sequence - first);
    const int64_t tiles = roundedUp(rows, kTileRows);
    const int64_t seen = head.causal ? first + rows : sequence;
    for (int64_t start = 0; start < seen; start += kKeyBlock) {
      // Keys of this block that the queries of a tile see, in whole vectors.
      const auto columnsOf = [&](int64_t tile) {
        const int64_t last = head.causal ? std::min(first + tile + kTileRows, seen) : seen;
        return std::clamp<int64_t>(roundedUp(last - start, kLanes), 0, kKeyBlock);
      };
      for (int64_t tile = 0; tile < tiles; tile += kTileRows) {
        const int64_t columns = columnsOf(tile);
        multiplyRows<false, false>(query + (first + tile) * width, width, keyPanels + start * width, kPanel,
                                   kPanel * width, probabilities + tile * kStride, kStride, columns, head.channels);
        multiplyRows<false, false>(gradient + (first + tile) * width, width, valuePanels + start * width, kPanel,
                                   kPanel * width, dScores + tile * kStride, kStride, columns, head.channels);
      }
      for (int64_t row = 0; row < rows; ++row) {
        const int64_t position = first + row;
        const int64_t columns = columnsOf(row / kTileRows * kTileRows);
        const int64_t visible =
            std::clamp<int64_t>((head.causal ? position + 1 : sequence) - start, 0, std::min(columns, kKeyBlock));
        float* probability = probabilities + row * kStride;
        float* dScore = dScores + row * kStride;
        const float delta = deltas[position];
        const RowSum norm = norms[position];
        const uint32_t* bits =
            head.dropout
                ? drawBits(*head.dropout, head.firstProbability + position * sequence + start, visible, words)
                : nullptr;
        for (int64_t at = 0; at < columns; at += kLanes) {
          Floats exponent = load(probability + at) * toLog2;
          if (mask != nullptr) exponent += load(mask + start + at);
          Floats p = exp2((exponent - norm.largest) - norm.sum);
          if (at + kLanes > visible) p = lanes < static_cast<int32_t>(visible - at) ? p : Floats{};
          Floats incoming = load(dScore + at);
          Floats kept = p;
          if (bits != nullptr) {
            const Words drawn = loadWords(bits + at);
            kept = drawn < threshold ? Floats{} : p;
            incoming = drawn < threshold ? Floats{} : incoming * keptScale;
          }
          store(probability + at, kept);
          store(dScore + at, p * (incoming - delta));
        }
      }
      const int64_t columns = std::min(roundedUp(seen - start, kTileRows), kKeyBlock);
      for (int64_t row = 0; row < columns; row += kTileRows) {
        // Under causality the first queries of the block do not see this key.
        const int64_t skipped = head.causal ? std::max<int64_t>(0, start + row - first) : 0;
        if (skipped >= rows) break;
        multiplyRows<true, true>(probabilities + skipped * kStride + row, kStride, gradient + (first + skipped) * width,
                                 width, kPanel, valueSums + (start + row) * width, width, width, rows - skipped);
        multiplyRows<true, true>(dScores + skipped * kStride + row, kStride, query + (first + skipped) * width, width,
                                 kPanel, keySums + (start + row) * width, width, width, rows - skipped);
      }
      for (int64_t tile = 0; tile < tiles; tile += kTileRows) {
        const int64_t depth = columnsOf(tile);
        float* sums = querySums + (first + tile) * width;
        if (start == 0)
          multiplyRows<false, false>(dScores + tile * kStride, kStride, key + start * width, width, kPanel, sums, width,
                                     width, depth);
        else if (depth > 0)
          multiplyRows<false, true>(dScores + tile * kStride, kStride, key + start * width, width, kPanel, sums, width,
                                    width, depth);
      }
    }
  }
  for (int64_t row = 0; row < sequence; ++row) {
    writeRow(querySums + row * width, head.scale, head.channels, dQuery + row * head.packedStride);
    writeRow(keySums + row * width, head.scale, head.channels, dKey + row * head.packedStride);
    writeRow(valueSums + row * width, keptScale, head.channels, dValue + row * head.packedStride);
  }
}

}  // namespace espalier
