// What the loops over rows share: reading and writing float32 and bfloat16, functions that a compiler vectorises, rows
// dealt out to threads, and sums over rows that are the same in every run with the same number of threads.
//
// A loop here has no calls and no branches, so that -O3 turns it into vector instructions; every function works on one
// element and is written in terms of operations that exist for vectors everywhere.

#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "dropout-mask.h"
#include "threads.h"

namespace espalier {

/// A bfloat16 number as its bits: c10::BFloat16's conversions hide from the vectoriser what is only a shift.
using Half = uint16_t;

inline float bitsToFloat(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline uint32_t floatToBits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float load(const float* values, int64_t index) { return values[index]; }
inline float load(const Half* values, int64_t index) {
  return bitsToFloat(static_cast<uint32_t>(values[index]) << 16);
}

inline void store(float* values, int64_t index, float value) { values[index] = value; }
inline void store(Half* values, int64_t index, float value) {
  const uint32_t bits = floatToBits(value);
  // To the nearest, ties to even; a NaN must not be rounded up to infinity.
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  values[index] = static_cast<Half>((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
}

/// e^x for x <= 0 to a relative error of 2^-23 (Cephes' polynomial); below float32's normal range its smallest number.
/// Nothing larger is needed, and a second bound would keep the loops around it from being vectorised.
inline float exponential(float x) {
  constexpr float kRoundToInteger = 12582912.0f;  // 1.5 · 2^23: adding it leaves the integer in the lowest bits
  x = x < -87.0f ? -87.0f : x;
  const float shifted = x * 1.44269504088896341f + kRoundToInteger;
  const float n = shifted - kRoundToInteger;
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float mantissa = p * r * r + r + 1.0f;
  return bitsToFloat(floatToBits(mantissa) + (floatToBits(shifted) << 23));
}

/// Rows [begin, end) of one of `count` chunks.
struct Rows {
  int64_t chunk;
  int64_t begin;
  int64_t end;
};

/// Elements below which another thread costs more than it does.
constexpr int64_t kElementsOfAThread = 8192;

/// How many chunks rows are dealt out in: depends on sizes and the number of threads alone.
inline int64_t chunksOf(int64_t rows, int64_t columns) {
  const int64_t useful = rows * columns / kElementsOfAThread;
  return std::max<int64_t>(1, std::min<int64_t>({static_cast<int64_t>(at::get_num_threads()), useful, rows}));
}

template <typename Body>
void overRows(int64_t rows, int64_t chunks, const Body& body) {
  parallelFor(0, chunks, 1, [&](int64_t first, int64_t last) {
    for (int64_t chunk = first; chunk < last; ++chunk) {
      body(Rows{chunk, rows * chunk / chunks, rows * (chunk + 1) / chunks});
    }
  });
}

/// Sums over rows, one for each column. A chunk adds its rows up in groups, so that rounding errors grow with the number
/// of groups and not of rows.
class ColumnSums {
 public:
  ColumnSums(int64_t chunks, int64_t columns) : chunks_(chunks), columns_(columns), sums_(2 * chunks * columns) {}

  /// Where the current group of a chunk is added up.
  float* group(int64_t chunk) { return sums_.data() + (2 * chunk + 1) * columns_; }

  /// To be called after every row, counted from the chunk's first.
  void endRow(int64_t chunk, int64_t row, bool last) {
    constexpr int64_t kGroup = 32;
    if (!last && (row + 1) % kGroup != 0) return;
    float* total = sums_.data() + 2 * chunk * columns_;
    float* part = group(chunk);
#pragma omp simd
    for (int64_t column = 0; column < columns_; ++column) {
      total[column] += part[column];
      part[column] = 0;
    }
  }

  at::Tensor total() const {
    at::Tensor result = at::empty({columns_}, at::TensorOptions().dtype(at::kFloat));
    float* values = result.data_ptr<float>();
    for (int64_t column = 0; column < columns_; ++column) {
      float sum = 0;
      for (int64_t chunk = 0; chunk < chunks_; ++chunk) sum += sums_[2 * chunk * columns_ + column];
      values[column] = sum;
    }
    return result;
  }

 private:
  int64_t chunks_;
  int64_t columns_;
  std::vector<float> sums_;
};

/// Dropout's factors for the columns of one row after the other: 0 or 1 / (1 - rate), all 1 without dropout.
class MaskRow {
 public:
  MaskRow(int64_t columns, double rate, int64_t seed)
      : columns_(columns), drawn_(rate, seed, 0), active_(rate > 0), bits_(columns / 2 + 2), values_(columns, 1.0f) {}

  /// The factors of a row, valid until the next call.
  const float* of(int64_t row) {
    if (!active_) return values_.data();
    const uint64_t first = static_cast<uint64_t>(row) * static_cast<uint64_t>(columns_);
    const uint64_t firstPair = first / 2;
    const int64_t pairs = static_cast<int64_t>((first + columns_ + 1) / 2 - firstPair);
    uint64_t* bits = bits_.data();
#pragma omp simd
    for (int64_t pair = 0; pair < pairs; ++pair) bits[pair] = drawn_.bits(firstPair + static_cast<uint64_t>(pair));
    const int64_t odd = static_cast<int64_t>(first % 2);
    const uint64_t threshold = drawn_.threshold;
    const float scale = drawn_.scale;
    float* values = values_.data();
    if (odd == 0) {
      for (int64_t pair = 0; pair < columns_ / 2; ++pair) {
        values[2 * pair] = (bits[pair] & 0xffffffffULL) < threshold ? 0.0f : scale;
        values[2 * pair + 1] = (bits[pair] >> 32) < threshold ? 0.0f : scale;
      }
      if (columns_ % 2 == 1) values[columns_ - 1] = (bits[columns_ / 2] & 0xffffffffULL) < threshold ? 0.0f : scale;
    } else {
      for (int64_t column = 0; column < columns_; ++column) {
        const int64_t element = column + 1;
        const uint64_t half = element % 2 == 0 ? bits[element / 2] & 0xffffffffULL : bits[element / 2] >> 32;
        values[column] = half < threshold ? 0.0f : scale;
      }
    }
    return values;
  }

 private:
  int64_t columns_;
  DropoutMask drawn_;
  bool active_;
  std::vector<uint64_t> bits_;
  std::vector<float> values_;
};

/// Calls `body` with the element type of a tensor: `float` or `Half`.
template <typename Body>
void withElements(const at::Tensor& tensor, const Body& body) {
  if (tensor.scalar_type() == at::kBFloat16) {
    body(static_cast<Half*>(nullptr));
  } else {
    TORCH_CHECK(tensor.scalar_type() == at::kFloat, "expected float32 or bfloat16, got ", tensor.scalar_type());
    body(static_cast<float*>(nullptr));
  }
}

/// The elements of a tensor of that type.
template <typename Element>
Element* elements(const at::Tensor& tensor) {
  return static_cast<Element*>(tensor.data_ptr());
}

/// A float32 vector of the given length, row after row in memory.
inline const float* vectorOf(const at::Tensor& tensor, int64_t length, const char* name) {
  TORCH_CHECK(tensor.scalar_type() == at::kFloat && tensor.numel() == length && tensor.is_contiguous(), name,
              " must hold ", length, " float32 values, got ", tensor.sizes(), " of ", tensor.scalar_type());
  return tensor.data_ptr<float>();
}

inline void checkMatrix(const at::Tensor& tensor, const char* name) {
  TORCH_CHECK(tensor.dim() == 2 && tensor.is_contiguous(), name, " must be a contiguous matrix, got ", tensor.sizes());
}

inline void checkLike(const at::Tensor& tensor, const at::Tensor& like, const char* name) {
  checkMatrix(tensor, name);
  TORCH_CHECK(tensor.sizes() == like.sizes(), name, " must be ", like.sizes(), ", got ", tensor.sizes());
}

}  // namespace espalier
