// Attention of one bfloat16 head on a CPU with AMX: the same passes as in attention-blocked.h, with the products done by
// its tile unit, sixteen times as fast as by vectors. Scores, softmax and sums stay float32; probabilities and their
// gradients are rounded to bfloat16 between two products.
//
// A product's right operand comes in tiles of 32 × 16 whose rows hold pairs of neighbours along the sum. Where the
// sum runs over queries (gradients of keys and values), pairs of rows of probabilities are interleaved as they are made;
// the sums are then transposed: channels × keys.

#pragma once

#if defined(__AMX_TILE__) && defined(__AMX_BF16__) && defined(__AVX512BF16__) && defined(__AVX512BW__) && \
    defined(__linux__)
#define ESPALIER_AMX 1

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "attention-blocked.h"

namespace espalier {

/// Everything is padded to squares of this: two tiles each way.
constexpr int64_t kSquare = 32;
/// Elements of one tile of bfloat16: 16 rows of 64 bytes.
constexpr int64_t kTile = 512;
constexpr int64_t kAmxBlock = 128;

/// Asks the system once for the tiles' registers.
inline bool amxAllowed() {
  static const bool allowed = [] {
    constexpr long kRequest = 0x1023, kTileData = 18;
    return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
  }();
  return allowed;
}

/// Eight full tiles for this thread; what another library had set up comes back afterwards.
class AmxTiles {
 public:
  AmxTiles() {
    _tile_storeconfig(before_);
    alignas(64) uint8_t config[64] = {};
    config[0] = 1;
    for (int tile = 0; tile < 8; ++tile) {
      config[16 + 2 * tile] = 64;
      config[48 + tile] = 16;
    }
    _tile_loadconfig(config);
  }
  ~AmxTiles() {
    if (before_[0] != 0)
      _tile_loadconfig(before_);
    else
      _tile_release();
  }
  AmxTiles(const AmxTiles&) = delete;
  AmxTiles& operator=(const AmxTiles&) = delete;

 private:
  alignas(64) uint8_t before_[64];
};

/// c[32][32] (+)= a[32][32 · steps] · b, whose tiles lie `bStep` along the sum and `bNext` across apart (elements).
inline void multiplySquare(const Bfloat16* a, int64_t aStride, const Bfloat16* b, int64_t bStep, int64_t bNext,
                           float* c, int64_t cStride, int64_t steps, bool accumulate) {
  const int64_t cBytes = cStride * 4, aBytes = aStride * 2;
  if (accumulate) {
    _tile_loadd(0, c, cBytes);
    _tile_loadd(1, c + 16, cBytes);
    _tile_loadd(2, c + 16 * cStride, cBytes);
    _tile_loadd(3, c + 16 * cStride + 16, cBytes);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int64_t step = 0; step < steps; ++step) {
    _tile_loadd(4, a + step * kSquare, aBytes);
    _tile_loadd(6, b + step * bStep, 64);
    _tile_loadd(7, b + step * bStep + bNext, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(5, a + 16 * aStride + step * kSquare, aBytes);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, c, cBytes);
  _tile_stored(1, c + 16, cBytes);
  _tile_stored(2, c + 16 * cStride, cBytes);
  _tile_stored(3, c + 16 * cStride + 16, cBytes);
}

/// 32 channels of a row, zero behind the last one.
inline __m512i readChannels(const Bfloat16* row, int64_t left) {
  return _mm512_maskz_loadu_epi16(left >= 32 ? 0xffffffffu : (1u << std::max<int64_t>(left, 0)) - 1, row);
}

/// Rows of one head, zeros up to `paddedRows` and `width` channels.
inline void copyRows(const Bfloat16* from, int64_t stride, int64_t rows, int64_t channels, Bfloat16* to, int64_t width,
                     int64_t paddedRows) {
  for (int64_t row = 0; row < paddedRows; ++row)
    for (int64_t i = 0; i < width; i += kSquare)
      _mm512_storeu_si512(to + row * width + i,
                          row < rows ? readChannels(from + row * stride + i, channels - i) : _mm512_setzero_si512());
}

/// Rows [paddedRows][width] as the right operand of a product over channels: tile [row / 16][channel / 32], whose row is
/// a pair of channels of sixteen rows.
inline void tilesOverChannels(const Bfloat16* rows, int64_t paddedRows, int64_t width, Bfloat16* tiles) {
  for (int64_t row = 0; row < paddedRows; row += 16)
    for (int64_t i = 0; i < width; i += kSquare, tiles += kTile)
      transposeBlock(reinterpret_cast<const float*>(rows + row * width + i), width / 2, reinterpret_cast<float*>(tiles), 16);
}

/// The order that puts the halves of two vectors side by side.
inline __m512i interleaved(int half) {
  alignas(64) uint16_t order[32];
  for (int i = 0; i < 16; ++i) {
    order[2 * i] = static_cast<uint16_t>(half * 16 + i);
    order[2 * i + 1] = static_cast<uint16_t>(32 + half * 16 + i);
  }
  return _mm512_load_si512(order);
}

/// Rows as the right operand of a product over rows: tile [row / 32][channel / 16], whose row is a pair of rows.
inline void tilesOverRows(const Bfloat16* rows, int64_t paddedRows, int64_t width, Bfloat16* tiles) {
  const __m512i low = interleaved(0), high = interleaved(1);
  for (int64_t row = 0; row < paddedRows; row += 2) {
    Bfloat16* line = tiles + row / kSquare * kSquare * width + row % kSquare / 2 * 32;
    for (int64_t i = 0; i < width; i += kSquare) {
      const __m512i even = _mm512_loadu_si512(rows + row * width + i);
      const __m512i odd = _mm512_loadu_si512(rows + (row + 1) * width + i);
      _mm512_storeu_si512(line + i / 16 * kTile, _mm512_permutex2var_epi16(even, low, odd));
      _mm512_storeu_si512(line + (i / 16 + 1) * kTile, _mm512_permutex2var_epi16(even, high, odd));
    }
  }
}

/// to[channel][row] of rows [paddedRows][width]
inline void transposeRows(const Bfloat16* rows, int64_t paddedRows, int64_t width, Bfloat16* to) {
  alignas(64) float block[256], turned[256];
  for (int64_t row = 0; row < paddedRows; row += 16)
    for (int64_t i = 0; i < width; i += 16) {
      for (int64_t line = 0; line < 16; ++line) store(block + 16 * line, load(rows + (row + line) * width + i));
      transposeBlock(block, 16, turned, 16);
      for (int64_t line = 0; line < 16; ++line) store(to + (i + line) * paddedRows + row, load(turned + 16 * line));
    }
}

struct AmxPadded {
  int64_t channels;
  int64_t rows;
  int64_t scoreStride;

  AmxPadded(int64_t sequence, int64_t channels)
      : channels(roundedUp(channels, kSquare)), rows(roundedUp(sequence, kAmxBlock)), scoreStride(rows + 16) {}

  int64_t forwardFloats() const {
    return 3 * Scratch::sizeOf(rows * channels) + 2 * Scratch::sizeOf(kSquare * scoreStride) +
           Scratch::sizeOf(kSquare * channels) + 2 * Scratch::sizeOf(rows + 2 * kLanes);
  }
  int64_t backwardFloats() const {
    return 10 * Scratch::sizeOf(rows * channels) + 2 * Scratch::sizeOf(kSquare * (kAmxBlock + 16)) +
           3 * Scratch::sizeOf(kAmxBlock * (kAmxBlock + 32)) + 3 * Scratch::sizeOf(rows + 2 * kLanes) +
           Scratch::sizeOf(2 * rows) + Scratch::sizeOf(rows);
  }
};

inline Bfloat16* takeHalves(Scratch& scratch, int64_t count) {
  return reinterpret_cast<Bfloat16*>(scratch.take((count + 1) / 2));
}

/// The forward pass of one head, for the queries from `begin` (a multiple of 32) to `end`.
inline void attendHeadAmx(const Head<Bfloat16>& head, int64_t begin, int64_t end, Scratch& scratch, Bfloat16* y,
                          float* logsumexp) {
  const AmxPadded padded(head.sequence, head.channels);
  const int64_t width = padded.channels;
  const int64_t keys = head.causal ? std::min(end, head.sequence) : head.sequence;
  const int64_t paddedKeys = roundedUp(keys, kSquare);
  scratch.restart();
  Bfloat16* rows = takeHalves(scratch, padded.rows * width);
  Bfloat16* keyTiles = takeHalves(scratch, padded.rows * width);
  Bfloat16* valueTiles = takeHalves(scratch, padded.rows * width);
  float* scores = scratch.take(kSquare * padded.scoreStride);
  Bfloat16* probabilities = takeHalves(scratch, kSquare * padded.scoreStride);
  float* output = scratch.take(kSquare * width);
  uint32_t* words = reinterpret_cast<uint32_t*>(scratch.take(padded.rows + 2 * kLanes));
  const float* mask = readMask(head.mask, head.sequence, padded.rows, scratch);
  copyRows(head.key, head.packedStride, keys, head.channels, rows, width, paddedKeys);
  tilesOverChannels(rows, paddedKeys, width, keyTiles);
  copyRows(head.value, head.packedStride, keys, head.channels, rows, width, paddedKeys);
  tilesOverRows(rows, paddedKeys, width, valueTiles);

  const uint32_t threshold = head.dropout ? thresholdOf(*head.dropout) : 0;
  const float keptScale = head.dropout ? head.dropout->scale : 1.0f;
  for (int64_t first = begin; first < end; first += kSquare) {
    const int64_t count = std::min(kSquare, end - first);
    const int64_t seen = head.causal ? std::min(first + count, keys) : keys;
    const int64_t columns = roundedUp(seen, kSquare);
    copyRows(head.query + first * head.packedStride, head.packedStride, count, head.channels, rows, width, kSquare);
    for (int64_t key = 0; key < columns; key += kSquare)
      multiplySquare(rows, width, keyTiles + key * width, kTile, 16 * width, scores + key, padded.scoreStride,
                     width / kSquare, false);
    float norms[kSquare];
    for (int64_t row = 0; row < kSquare; ++row) {
      Bfloat16* to = probabilities + row * padded.scoreStride;
      if (row >= count) {
        std::memset(to, 0, sizeof(Bfloat16) * columns);
        continue;
      }
      const int64_t position = first + row;
      const int64_t visible = head.causal ? std::min(position + 1, seen) : seen;
      const uint32_t* bits =
          head.dropout ? drawBits(*head.dropout, head.firstProbability + position * head.sequence, visible, words)
                       : nullptr;
      const RowSum total = softmaxRow(scores + row * padded.scoreStride, head.scale * kLog2E, visible, columns, mask,
                                      bits, threshold, to);
      norms[row] = keptScale / total.sum;
      logsumexp[position] = (total.largest + std::log2(total.sum)) * kLn2;
    }
    for (int64_t i = 0; i < width; i += kSquare)
      multiplySquare(probabilities, padded.scoreStride, valueTiles + i / 16 * kTile, kSquare * width, kTile, output + i,
                     width, columns / kSquare, false);
    for (int64_t row = 0; row < count; ++row)
      writeRow(output + row * width, norms[row], head.channels, y + (first + row) * head.stride);
  }
}

/// Transposed sums [width][rows] as rows of the gradient's packed layout.
inline void writeTransposed(const float* sums, int64_t stride, int64_t rows, int64_t width, float factor,
                            int64_t channels, Bfloat16* to, int64_t toStride) {
  alignas(64) float turned[256];
  for (int64_t row = 0; row < rows; row += 16)
    for (int64_t i = 0; i < width && i < channels; i += 16) {
      transposeBlock(sums + i * stride + row, stride, turned, 16);
      for (int64_t line = 0; line < std::min<int64_t>(16, rows - row); ++line)
        writeRow(turned + 16 * line, factor, std::min<int64_t>(16, channels - i), to + (row + line) * toStride + i);
    }
}

/// The backward pass of one head, as attendHeadBackward.
inline void attendHeadBackwardAmx(const Head<Bfloat16>& head, const Bfloat16* dy, const Bfloat16* y,
                                  const float* logsumexp, Scratch& scratch, Bfloat16* dQuery, Bfloat16* dKey,
                                  Bfloat16* dValue) {
  const AmxPadded padded(head.sequence, head.channels);
  const int64_t sequence = head.sequence;
  const int64_t width = padded.channels;
  const int64_t paddedRows = roundedUp(sequence, kSquare);
  scratch.restart();
  const auto halves = [&] { return takeHalves(scratch, padded.rows * width); };
  Bfloat16* query = halves();
  Bfloat16* queryTurned = halves();
  Bfloat16* gradient = halves();
  Bfloat16* gradientTurned = halves();
  Bfloat16* rows = halves();
  Bfloat16* keyOverChannels = halves();
  Bfloat16* keyOverRows = halves();
  Bfloat16* valueOverChannels = halves();
  float* querySums = scratch.take(padded.rows * width);
  float* keySums = scratch.take(padded.rows * width);
  float* valueSums = scratch.take(padded.rows * width);
  constexpr int64_t kStride = kAmxBlock + 16;
  float* scores = scratch.take(kSquare * kStride);
  float* incoming = scratch.take(kSquare * kStride);
  // Halves: the gradients of scores as rows, and both as tiles [query / 32][key / 16].
  constexpr int64_t kHalfStride = kAmxBlock + 32;
  Bfloat16* dScores = takeHalves(scratch, kAmxBlock * kHalfStride);
  Bfloat16* dScoreTiles = takeHalves(scratch, kAmxBlock * kAmxBlock);
  Bfloat16* probabilityTiles = takeHalves(scratch, kAmxBlock * kAmxBlock);
  uint32_t* words[2] = {reinterpret_cast<uint32_t*>(scratch.take(padded.rows + 2 * kLanes)),
                        reinterpret_cast<uint32_t*>(scratch.take(padded.rows + 2 * kLanes))};
  const float* mask = readMask(head.mask, sequence, padded.rows, scratch);
  RowSum* norms = reinterpret_cast<RowSum*>(scratch.take(2 * padded.rows));
  float* deltas = scratch.take(padded.rows);

  copyRows(head.key, head.packedStride, sequence, head.channels, rows, width, paddedRows);
  tilesOverChannels(rows, paddedRows, width, keyOverChannels);
  tilesOverRows(rows, paddedRows, width, keyOverRows);
  copyRows(head.value, head.packedStride, sequence, head.channels, rows, width, paddedRows);
  tilesOverChannels(rows, paddedRows, width, valueOverChannels);
  copyRows(head.query, head.packedStride, sequence, head.channels, query, width, paddedRows);
  transposeRows(query, paddedRows, width, queryTurned);
  copyRows(dy, head.stride, sequence, head.channels, gradient, width, paddedRows);
  transposeRows(gradient, paddedRows, width, gradientTurned);
  for (int64_t row = 0; row < paddedRows; ++row) {
    const bool real = row < sequence;
    norms[row] = real ? normOf(head, row, logsumexp[row], mask) : RowSum{0, 0};
    deltas[row] = real ? deltaOf(y + row * head.stride, dy + row * head.stride, head.channels) : 0;
  }

  const float toLog2 = head.scale * kLog2E;
  const uint32_t threshold = head.dropout ? thresholdOf(*head.dropout) : 0;
  const float keptScale = head.dropout ? head.dropout->scale : 1.0f;
  const Ints lanes = positions();
  const __m512i pairUp = [] {
    // (even row's sixteen, odd row's sixteen) → pairs
    alignas(64) uint16_t order[32];
    for (int i = 0; i < 32; ++i) order[i] = static_cast<uint16_t>(i / 2 + i % 2 * 16);
    return _mm512_load_si512(order);
  }();

  // One vector of one row: probabilities that were kept, and gradients of scores.
  struct Made {
    Floats kept;
    Floats dScore;
  };
  for (int64_t first = 0; first < paddedRows; first += kAmxBlock) {
    const int64_t count = std::min(kAmxBlock, paddedRows - first);
    const int64_t seen = head.causal ? std::min(first + count, paddedRows) : paddedRows;
    for (int64_t start = 0; start < seen; start += kAmxBlock) {
      const auto columnsOf = [&](int64_t stripe) {
        const int64_t last = head.causal ? first + stripe + kSquare : paddedRows;
        return std::clamp<int64_t>(last - start, 0, std::min(kAmxBlock, paddedRows - start));
      };
      for (int64_t stripe = 0; stripe < count; stripe += kSquare) {
        const int64_t columns = columnsOf(stripe);
        for (int64_t key = 0; key < columns; key += kSquare) {
          multiplySquare(query + (first + stripe) * width, width, keyOverChannels + (start + key) * width, kTile,
                         16 * width, scores + key, kStride, width / kSquare, false);
          multiplySquare(gradient + (first + stripe) * width, width, valueOverChannels + (start + key) * width, kTile,
                         16 * width, incoming + key, kStride, width / kSquare, false);
        }
        for (int64_t row = 0; row < kSquare; row += 2) {
          const int64_t position = first + stripe + row;
          int64_t visible[2];
          const uint32_t* bits[2] = {nullptr, nullptr};
          for (int odd = 0; odd < 2; ++odd) {
            const int64_t last = head.causal ? std::min(position + odd + 1, sequence) : sequence;
            visible[odd] = std::clamp<int64_t>(last - start, 0, columns);
            if (head.dropout)
              bits[odd] = drawBits(*head.dropout, head.firstProbability + (position + odd) * sequence + start,
                                   visible[odd], words[odd]);
          }
          const auto make = [&](int odd, int64_t at) -> Made {
            const int64_t offset = (row + odd) * kStride + at;
            const RowSum norm = norms[position + odd];
            Floats exponent = load(scores + offset) * toLog2;
            if (mask != nullptr) exponent += load(mask + start + at);
            Floats p = exp2((exponent - norm.largest) - norm.sum);
            if (at + kLanes > visible[odd]) p = lanes < static_cast<int32_t>(visible[odd] - at) ? p : Floats{};
            Floats gradientOfP = load(incoming + offset);
            Floats kept = p;
            if (head.dropout) {
              const Words drawn = loadWords(bits[odd] + at);
              kept = drawn < threshold ? Floats{} : p;
              gradientOfP = drawn < threshold ? Floats{} : gradientOfP * keptScale;
            }
            return {kept, p * (gradientOfP - deltas[position + odd])};
          };
          Bfloat16* evenRow = dScores + (stripe + row) * kHalfStride;
          const int64_t line = stripe / kSquare * kSquare * kAmxBlock + row / 2 * 32;
          for (int64_t at = 0; at < columns; at += kLanes) {
            const Made even = make(0, at), odd = make(1, at);
            const __m512i kept = (__m512i)_mm512_cvtne2ps_pbh((__m512)odd.kept, (__m512)even.kept);
            const __m512i change = (__m512i)_mm512_cvtne2ps_pbh((__m512)odd.dScore, (__m512)even.dScore);
            _mm512_storeu_si512(probabilityTiles + line + at / 16 * kTile, _mm512_permutexvar_epi16(pairUp, kept));
            _mm512_storeu_si512(dScoreTiles + line + at / 16 * kTile, _mm512_permutexvar_epi16(pairUp, change));
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(evenRow + at), _mm512_castsi512_si256(change));
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(evenRow + kHalfStride + at),
                                _mm512_extracti64x4_epi64(change, 1));
          }
        }
        for (int64_t i = 0; i < width && columns > 0; i += kSquare)
          multiplySquare(dScores + stripe * kHalfStride, kHalfStride, keyOverRows + start * width + i / 16 * kTile,
                         kSquare * width, kTile, querySums + (first + stripe) * width + i, width, columns / kSquare,
                         start > 0);
      }
      const int64_t columns = std::min(kAmxBlock, seen - start);
      for (int64_t key = 0; key < columns; key += kSquare) {
        // Under causality the first queries of the block do not see these keys.
        const int64_t skipped = head.causal ? std::max<int64_t>(0, start + key - first) : 0;
        if (skipped >= count) break;
        // The first block of queries that sees a key starts its sums.
        const bool later = head.causal ? first > start : first > 0;
        const int64_t tiles = skipped * kAmxBlock + key / 16 * kTile;
        for (int64_t i = 0; i < width; i += kSquare) {
          const int64_t from = i * paddedRows + first + skipped;
          const int64_t to = i * padded.rows + start + key;
          multiplySquare(gradientTurned + from, paddedRows, probabilityTiles + tiles, kSquare * kAmxBlock, kTile,
                         valueSums + to, padded.rows, (count - skipped) / kSquare, later);
          multiplySquare(queryTurned + from, paddedRows, dScoreTiles + tiles, kSquare * kAmxBlock, kTile, keySums + to,
                         padded.rows, (count - skipped) / kSquare, later);
        }
      }
    }
  }
  for (int64_t row = 0; row < sequence; ++row)
    writeRow(querySums + row * width, head.scale, head.channels, dQuery + row * head.packedStride);
  writeTransposed(keySums, padded.rows, sequence, width, head.scale, head.channels, dKey, head.packedStride);
  writeTransposed(valueSums, padded.rows, sequence, width, keptScale, head.channels, dValue, head.packedStride);
}

}  // namespace espalier

#endif
