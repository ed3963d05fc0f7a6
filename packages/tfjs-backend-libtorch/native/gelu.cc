// The Gaussian error linear unit between two linear layers, together with the first one's bias: one pass over memory
// forward, and one backward, which computes the activation anew instead of having kept it.

#define AT_PER_OPERATOR_HEADERS
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <string>
#include <tuple>

#include "vector-loops.h"

namespace {

using namespace espalier;

struct Activation {
  float value;
  float slope;
};

/// x·Φ(x), with Φ from Abramowitz & Stegun 7.1.26 (absolute error 1.5e-7), whose exponential is also the density's.
struct ExactGelu {
  static Activation at(float x) {
    const float magnitude = x < 0 ? -x : x;
    const float bell = exponential(-0.5f * x * x);
    const float t = 1.0f / (1.0f + 0.3275911f * 0.70710678118654752f * magnitude);
    float tail = 1.061405429f;
    tail = tail * t - 1.453152027f;
    tail = tail * t + 1.421413741f;
    tail = tail * t - 0.284496736f;
    tail = tail * t + 0.254829592f;
    tail = 0.5f * tail * t * bell;
    const float cumulative = x < 0 ? tail : 1.0f - tail;
    return {x * cumulative, cumulative + x * bell * 0.39894228040143268f};
  }
};

/// The approximation by tanh: (1 + tanh(u)) / 2 is the logistic function of 2u, here by the exponential of -2|u|.
struct TanhGelu {
  static Activation at(float x) {
    constexpr float kScale = 0.79788456080286536f;
    constexpr float kCubic = 0.044715f;
    const float square = x * x;
    const float inner = kScale * x * (1.0f + kCubic * square);
    const float decay = exponential(inner < 0 ? 2.0f * inner : -2.0f * inner);
    const float upper = 1.0f / (1.0f + decay);
    const float logistic = inner < 0 ? decay * upper : upper;
    const float innerSlope = kScale * (1.0f + 3.0f * kCubic * square);
    return {x * logistic, logistic + 2.0f * x * decay * upper * upper * innerSlope};
  }
};

template <typename Body>
void withGelu(const std::string& approximate, const Body& body) {
  if (approximate == "tanh") {
    body(TanhGelu());
  } else {
    TORCH_CHECK(approximate == "none", "approximate must be none or tanh, got ", approximate);
    body(ExactGelu());
  }
}

/// gelu(x + bias); x [rows, columns] float32 or bfloat16, bias [columns] float32 or none. The result has x's type.
at::Tensor biasGelu(const at::Tensor& x, const at::Tensor& bias, c10::string_view approximate) {
  checkMatrix(x, "x");
  const int64_t rows = x.size(0);
  const int64_t columns = x.size(1);
  at::Tensor result = at::empty_like(x);
  const float* shift = vectorOf(bias, columns, "bias");
  withGelu(std::string(approximate), [&](auto gelu) {
    withElements(x, [&](auto* type) {
      using Element = std::remove_pointer_t<decltype(type)>;
      using Gelu = decltype(gelu);
      const Element* from = elements<Element>(x);
      Element* to = elements<Element>(result);
      overRows(rows, chunksOf(rows, columns), [&](Rows chunk) {
        for (int64_t row = chunk.begin; row < chunk.end; ++row) {
          const Element* in = from + row * columns;
          Element* out = to + row * columns;
#pragma omp simd
          for (int64_t column = 0; column < columns; ++column) {
            store(out, column, Gelu::at(load(in, column) + shift[column]).value);
          }
        }
      });
    });
  });
  return result;
}

/// In place: x becomes gelu(x + bias), and its gradient dy that of x.
///
/// @returns the gradient of the bias
at::Tensor biasGeluBackward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& bias,
                            c10::string_view approximate) {
  checkMatrix(x, "x");
  checkLike(dy, x, "dy");
  TORCH_CHECK(dy.scalar_type() == x.scalar_type(), "dy must be ", x.scalar_type(), ", got ", dy.scalar_type());
  const int64_t rows = x.size(0);
  const int64_t columns = x.size(1);
  const float* shift = vectorOf(bias, columns, "bias");
  const int64_t chunks = chunksOf(rows, columns);
  ColumnSums sums(chunks, columns);
  withGelu(std::string(approximate), [&](auto gelu) {
    withElements(x, [&](auto* type) {
      using Element = std::remove_pointer_t<decltype(type)>;
      using Gelu = decltype(gelu);
      Element* values = elements<Element>(x);
      Element* gradients = elements<Element>(dy);
      overRows(rows, chunks, [&](Rows chunk) {
        float* sum = sums.group(chunk.chunk);
        for (int64_t row = chunk.begin; row < chunk.end; ++row) {
          Element* value = values + row * columns;
          Element* gradient = gradients + row * columns;
#pragma omp simd
          for (int64_t column = 0; column < columns; ++column) {
            const Activation activation = Gelu::at(load(value, column) + shift[column]);
            const float slope = load(gradient, column) * activation.slope;
            store(value, column, activation.value);
            store(gradient, column, slope);
            sum[column] += slope;
          }
          sums.endRow(chunk.chunk, row - chunk.begin, row + 1 == chunk.end);
        }
      });
    });
  });
  return sums.total();
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(espalier, library) {
  library.def("bias_gelu(Tensor x, Tensor bias, str approximate) -> Tensor");
  library.def("bias_gelu_backward_(Tensor(a!) dy, Tensor(b!) x, Tensor bias, str approximate) -> Tensor");
}

TORCH_LIBRARY_IMPL(espalier, CPU, library) {
  library.impl("bias_gelu", biasGelu);
  library.impl("bias_gelu_backward_", biasGeluBackward);
}
