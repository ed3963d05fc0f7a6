// The vectors that the CPU's attention computes with, in the compiler's own vector extension: as wide as the processor
// that the addon is compiled for has them.

#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#if defined(__FAST_MATH__)
#error "exp2 below rounds by adding a large number and taking it off again, which -ffast-math removes"
#endif

#if defined(__clang__)
#define ESPALIER_UNROLL _Pragma("clang loop unroll(full)")
#else
#define ESPALIER_UNROLL _Pragma("GCC unroll 32")
#endif

namespace espalier {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float Floats __attribute__((vector_size(kLanes * 4)));
typedef int32_t Ints __attribute__((vector_size(kLanes * 4)));
typedef uint32_t Words __attribute__((vector_size(kLanes * 4)));
typedef uint64_t Pairs __attribute__((vector_size(kLanes * 4)));
typedef uint16_t Halves __attribute__((vector_size(kLanes * 2)));

/// A number rounded to the upper half of a float32.
struct Bfloat16 {
  uint16_t bits;
};

inline Floats load(const float* from) {
  Floats values;
  std::memcpy(&values, from, sizeof(values));
  return values;
}

inline Floats load(const Bfloat16* from) {
  Halves halves;
  std::memcpy(&halves, from, sizeof(halves));
  return (Floats)(__builtin_convertvector(halves, Words) << 16);
}

inline void store(float* to, Floats values) { std::memcpy(to, &values, sizeof(values)); }

/// To the nearest, ties to even; NaN stays NaN.
inline void store(Bfloat16* to, Floats values) {
#if defined(__AVX512BF16__)
  const __m256bh halves = _mm512_cvtneps_pbh((__m512)values);
#else
  const Words bits = (Words)values;
  const Words rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const Halves halves = __builtin_convertvector(values == values ? rounded : (Words)(bits >> 16) | 0x40u, Halves);
#endif
  std::memcpy(to, &halves, sizeof(halves));
}

inline float single(float value) { return value; }

inline float single(Bfloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof(result));
  return result;
}

inline void round(float value, float* to) { *to = value; }

inline void round(float value, Bfloat16* to) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  to->bits = static_cast<uint16_t>(value == value ? (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16 : bits >> 16 | 0x40u);
}

inline Floats all(float value) { return value - Floats{}; }

inline Floats larger(Floats a, Floats b) {
#if defined(__AVX512F__)
  return (Floats)_mm512_max_ps((__m512)a, (__m512)b);
#else
  return a > b ? a : b;
#endif
}

/// 0, 1, 2, …
inline Ints positions() {
  Ints result{};
  for (int lane = 0; lane < kLanes; ++lane) result[lane] = lane;
  return result;
}

inline float sum(Floats values) {
  float total = 0;
  for (int lane = 0; lane < kLanes; ++lane) total += values[lane];
  return total;
}

inline float largest(Floats values) {
  float result = values[0];
  for (int lane = 1; lane < kLanes; ++lane) result = values[lane] > result ? values[lane] : result;
  return result;
}

/// 2^x for x <= 127, to 1e-7 of the value; 0 below 2^-126. The polynomial is the best one of degree 5 for 2^x on
/// [-1/2, 1/2] in relative error.
inline Floats exp2(Floats x) {
  constexpr float kRound = 12582912.0f;  // 1.5 · 2^23: a sum with it has no bits left for a fraction
  const Floats shifted = x + kRound;
  const Floats rest = x - (shifted - kRound);
  Floats power = rest * 0.001327647178063333f + 0.009675541332717983f;
  power = power * rest + 0.055507132741521435f;
  power = power * rest + 0.24022119723882798f;
  power = power * rest + 0.6931469670643613f;
  power = power * rest + 1.0000000716546689f;
  const Floats scaled = (Floats)((Words)power + ((Words)shifted << 23));
  return x < -126.0f ? Floats{} : scaled;
}

/// out[column][row] = in[row][column] of one block of kLanes × kLanes.
inline void transposeBlock(const float* in, int64_t inStride, float* out, int64_t outStride) {
#if defined(__AVX512F__)
  // Four rounds; each exchanges the off-diagonal quarters of blocks half as large as the one before.
  __m512 rows[16];
  ESPALIER_UNROLL
  for (int row = 0; row < 16; ++row) rows[row] = _mm512_loadu_ps(in + row * inStride);
  __m512 pairs[16];
  ESPALIER_UNROLL
  for (int row = 0; row < 16; row += 2) {
    pairs[row] = _mm512_unpacklo_ps(rows[row], rows[row + 1]);
    pairs[row + 1] = _mm512_unpackhi_ps(rows[row], rows[row + 1]);
  }
  ESPALIER_UNROLL
  for (int row = 0; row < 16; row += 4) {
    const __m512d low0 = _mm512_castps_pd(pairs[row]), low1 = _mm512_castps_pd(pairs[row + 2]);
    const __m512d high0 = _mm512_castps_pd(pairs[row + 1]), high1 = _mm512_castps_pd(pairs[row + 3]);
    rows[row] = _mm512_castpd_ps(_mm512_unpacklo_pd(low0, low1));
    rows[row + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low0, low1));
    rows[row + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high0, high1));
    rows[row + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high0, high1));
  }
  ESPALIER_UNROLL
  for (int column = 0; column < 4; ++column) {
    const __m512 upperEven = _mm512_shuffle_f32x4(rows[column], rows[column + 4], 0x88);
    const __m512 upperOdd = _mm512_shuffle_f32x4(rows[column], rows[column + 4], 0xdd);
    const __m512 lowerEven = _mm512_shuffle_f32x4(rows[column + 8], rows[column + 12], 0x88);
    const __m512 lowerOdd = _mm512_shuffle_f32x4(rows[column + 8], rows[column + 12], 0xdd);
    _mm512_storeu_ps(out + column * outStride, _mm512_shuffle_f32x4(upperEven, lowerEven, 0x88));
    _mm512_storeu_ps(out + (column + 8) * outStride, _mm512_shuffle_f32x4(upperEven, lowerEven, 0xdd));
    _mm512_storeu_ps(out + (column + 4) * outStride, _mm512_shuffle_f32x4(upperOdd, lowerOdd, 0x88));
    _mm512_storeu_ps(out + (column + 12) * outStride, _mm512_shuffle_f32x4(upperOdd, lowerOdd, 0xdd));
  }
#else
  for (int row = 0; row < kLanes; ++row)
    for (int column = 0; column < kLanes; ++column) out[column * outStride + row] = in[row * inStride + column];
#endif
}

}  // namespace espalier
