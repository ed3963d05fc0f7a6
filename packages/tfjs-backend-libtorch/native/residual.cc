// What comes after the second linear layer of a block: its bias, dropout, the residual connection, and layer
// normalisation. Each is one pass over memory here, forward and backward. Dropout's mask is not kept but drawn again.
//
// The residual stream and everything about layer normalisation is float32; what a linear layer gives or takes is float32
// or bfloat16.

#define AT_PER_OPERATOR_HEADERS
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include <cmath>
#include <optional>
#include <tuple>

#include "vector-loops.h"

namespace {

using namespace espalier;

at::TensorOptions floats() { return at::TensorOptions().dtype(at::kFloat); }

/// Where residual + dropout(branch + bias) is put: over the branch, if that has the room.
at::Tensor placeOfSum(const at::Tensor& branch) {
  return branch.scalar_type() == at::kFloat ? branch : at::empty(branch.sizes(), floats());
}

/// One row of the sum.
template <typename Element>
inline void addRow(const Element* branch, const float* bias, const float* residual, const float* mask, float* sum,
                   int64_t columns) {
#pragma omp simd
  for (int64_t column = 0; column < columns; ++column) {
    sum[column] = residual[column] + mask[column] * (load(branch, column) + bias[column]);
  }
}

/// residual + dropout(branch + bias), float32 [rows, columns]. The branch's memory may be used for it.
at::Tensor addResidual(const at::Tensor& branch, const at::Tensor& bias, const at::Tensor& residual, double rate,
                       int64_t seed) {
  checkMatrix(branch, "branch");
  checkLike(residual, branch, "residual");
  const int64_t rows = branch.size(0);
  const int64_t columns = branch.size(1);
  at::Tensor sum = placeOfSum(branch);
  const float* shift = vectorOf(bias, columns, "bias");
  const float* past = residual.data_ptr<float>();
  float* to = sum.data_ptr<float>();
  withElements(branch, [&](auto* type) {
    using Element = std::remove_pointer_t<decltype(type)>;
    const Element* from = elements<Element>(branch);
    overRows(rows, chunksOf(rows, columns), [&](Rows chunk) {
      MaskRow mask(columns, rate, seed);
      for (int64_t row = chunk.begin; row < chunk.end; ++row) {
        const int64_t at = row * columns;
        addRow(from + at, shift, past + at, mask.of(row), to + at, columns);
      }
    });
  });
  return sum;
}

/// The gradients of `addResidual` by its branch, in the given type, and by its bias.
std::tuple<at::Tensor, at::Tensor> addResidualBackward(const at::Tensor& dy, double rate, int64_t seed,
                                                       at::ScalarType type) {
  checkMatrix(dy, "dy");
  const int64_t rows = dy.size(0);
  const int64_t columns = dy.size(1);
  const int64_t chunks = chunksOf(rows, columns);
  at::Tensor dBranch = at::empty(dy.sizes(), at::TensorOptions().dtype(type));
  ColumnSums sums(chunks, columns);
  const float* from = dy.data_ptr<float>();
  withElements(dBranch, [&](auto* element) {
    using Element = std::remove_pointer_t<decltype(element)>;
    Element* to = elements<Element>(dBranch);
    overRows(rows, chunks, [&](Rows chunk) {
      MaskRow mask(columns, rate, seed);
      float* sum = sums.group(chunk.chunk);
      for (int64_t row = chunk.begin; row < chunk.end; ++row) {
        const float* gradient = from + row * columns;
        Element* out = to + row * columns;
        const float* factor = mask.of(row);
#pragma omp simd
        for (int64_t column = 0; column < columns; ++column) {
          const float value = gradient[column] * factor[column];
          store(out, column, value);
          sum[column] += value;
        }
        sums.endRow(chunk.chunk, row - chunk.begin, row + 1 == chunk.end);
      }
    });
  });
  return {dBranch, sums.total()};
}

/// Normalises one row.
template <typename Output>
inline void normaliseRow(const float* x, const float* gain, const float* shift, double epsilon, int64_t columns,
                         float* mean, float* rstd, float* y, Output* copy) {
  float total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t column = 0; column < columns; ++column) total += x[column];
  const float average = total / static_cast<float>(columns);
  float squares = 0;
#pragma omp simd reduction(+ : squares)
  for (int64_t column = 0; column < columns; ++column) {
    const float centred = x[column] - average;
    squares += centred * centred;
  }
  const float scale =
      static_cast<float>(1 / std::sqrt(static_cast<double>(squares) / static_cast<double>(columns) + epsilon));
  *mean = average;
  *rstd = scale;
  if (y != nullptr) {
#pragma omp simd
    for (int64_t column = 0; column < columns; ++column) {
      y[column] = (x[column] - average) * scale * gain[column] + shift[column];
    }
  }
  if (copy != nullptr) {
#pragma omp simd
    for (int64_t column = 0; column < columns; ++column) {
      store(copy, column, (x[column] - average) * scale * gain[column] + shift[column]);
    }
  }
}

/// Layer normalisation of residual + dropout(branch + bias).
///
/// @returns the sum (which may lie in the branch's memory), the normalised rows, in bfloat16 too if wanted (else
/// undefined), the mean and the reciprocal standard deviation of each row
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> residualLayerNorm(
    const at::Tensor& branch, const at::Tensor& bias, const at::Tensor& residual, const at::Tensor& gain,
    const at::Tensor& shift, double epsilon, double rate, int64_t seed, bool withCopy) {
  checkMatrix(branch, "branch");
  checkLike(residual, branch, "residual");
  const int64_t rows = branch.size(0);
  const int64_t columns = branch.size(1);
  at::Tensor sum = placeOfSum(branch);
  at::Tensor y = at::empty(branch.sizes(), floats());
  at::Tensor copy = withCopy ? at::empty(branch.sizes(), at::TensorOptions().dtype(at::kBFloat16)) : at::Tensor();
  at::Tensor mean = at::empty({rows}, floats());
  at::Tensor rstd = at::empty({rows}, floats());
  const float* before = vectorOf(bias, columns, "bias");
  const float* factor = vectorOf(gain, columns, "gain");
  const float* after = vectorOf(shift, columns, "shift");
  withElements(branch, [&](auto* type) {
    using Element = std::remove_pointer_t<decltype(type)>;
    const Element* from = elements<Element>(branch);
    overRows(rows, chunksOf(rows, columns), [&](Rows chunk) {
      MaskRow mask(columns, rate, seed);
      for (int64_t row = chunk.begin; row < chunk.end; ++row) {
        const int64_t at = row * columns;
        float* added = sum.data_ptr<float>() + at;
        addRow(from + at, before, residual.data_ptr<float>() + at, mask.of(row), added, columns);
        normaliseRow(added, factor, after, epsilon, columns, mean.data_ptr<float>() + row,
                     rstd.data_ptr<float>() + row, y.data_ptr<float>() + at,
                     withCopy ? elements<Half>(copy) + at : nullptr);
      }
    });
  });
  return {sum, y, copy, mean, rstd};
}

/// Layer normalisation of x, given out in one type.
std::tuple<at::Tensor, at::Tensor, at::Tensor> layerNorm(const at::Tensor& x, const at::Tensor& gain,
                                                         const at::Tensor& shift, double epsilon,
                                                         at::ScalarType type) {
  checkMatrix(x, "x");
  const int64_t rows = x.size(0);
  const int64_t columns = x.size(1);
  at::Tensor y = at::empty(x.sizes(), at::TensorOptions().dtype(type));
  at::Tensor mean = at::empty({rows}, floats());
  at::Tensor rstd = at::empty({rows}, floats());
  const float* factor = vectorOf(gain, columns, "gain");
  const float* after = vectorOf(shift, columns, "shift");
  const float* from = x.data_ptr<float>();
  withElements(y, [&](auto* element) {
    using Element = std::remove_pointer_t<decltype(element)>;
    Element* to = elements<Element>(y);
    overRows(rows, chunksOf(rows, columns), [&](Rows chunk) {
      for (int64_t row = chunk.begin; row < chunk.end; ++row) {
        normaliseRow<Element>(from + row * columns, factor, after, epsilon, columns, mean.data_ptr<float>() + row,
                              rstd.data_ptr<float>() + row, nullptr, to + row * columns);
      }
    });
  });
  return {y, mean, rstd};
}

/// The gradients of layer normalisation.
///
/// @param x what was normalised, float32
/// @param plus added to the gradient of x, such as that of a residual connection around the normalisation; or none
/// @param branchType if given, `x` was residual + dropout(branch + bias): also the gradients of branch and bias
/// @returns gradients of x (float32), gain, shift, and, if asked for, branch (in its type) and bias
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor> layerNormBackward(
    const at::Tensor& dy, const at::Tensor& x, const at::Tensor& mean, const at::Tensor& rstd, const at::Tensor& gain,
    const std::optional<at::Tensor>& plus, double rate, int64_t seed, std::optional<at::ScalarType> branchType) {
  checkMatrix(x, "x");
  checkLike(dy, x, "dy");
  const bool hasPlus = plus.has_value() && plus->defined();
  if (hasPlus) checkLike(*plus, x, "plus");
  const int64_t rows = x.size(0);
  const int64_t columns = x.size(1);
  const int64_t chunks = chunksOf(rows, columns);
  const float* factor = vectorOf(gain, columns, "gain");
  const float* means = vectorOf(mean, rows, "mean");
  const float* rstds = vectorOf(rstd, rows, "rstd");
  at::Tensor dx = at::empty(x.sizes(), floats());
  // Without dropout and in float32 the gradient of the branch is that of the sum.
  const bool separate = branchType.has_value() && (rate > 0 || *branchType != at::kFloat);
  at::Tensor dBranch = separate ? at::empty(x.sizes(), at::TensorOptions().dtype(*branchType)) : at::Tensor();
  ColumnSums gains(chunks, columns);
  ColumnSums shifts(chunks, columns);
  ColumnSums biases(chunks, columns);
  const bool wantsBias = branchType.has_value();
  withElements(dy, [&](auto* dyType) {
    using Incoming = std::remove_pointer_t<decltype(dyType)>;
    withElements(separate ? dBranch : dx, [&](auto* outType) {
      using Outgoing = std::remove_pointer_t<decltype(outType)>;
      overRows(rows, chunks, [&](Rows chunk) {
        MaskRow mask(columns, separate ? rate : 0, seed);
        float* gainSum = gains.group(chunk.chunk);
        float* shiftSum = shifts.group(chunk.chunk);
        float* biasSum = biases.group(chunk.chunk);
        for (int64_t row = chunk.begin; row < chunk.end; ++row) {
          const int64_t at = row * columns;
          const Incoming* gradient = elements<Incoming>(dy) + at;
          const float* in = x.data_ptr<float>() + at;
          float* out = dx.data_ptr<float>() + at;
          const float average = means[row];
          const float scale = rstds[row];
          float total = 0;
          float along = 0;
#pragma omp simd reduction(+ : total, along)
          for (int64_t column = 0; column < columns; ++column) {
            const float incoming = load(gradient, column);
            const float normal = (in[column] - average) * scale;
            const float weighted = incoming * factor[column];
            gainSum[column] += incoming * normal;
            shiftSum[column] += incoming;
            total += weighted;
            along += weighted * normal;
          }
          total /= static_cast<float>(columns);
          along /= static_cast<float>(columns);
          const float* extra = hasPlus ? plus->data_ptr<float>() + at : nullptr;
          if (extra == nullptr) {
#pragma omp simd
            for (int64_t column = 0; column < columns; ++column) {
              const float normal = (in[column] - average) * scale;
              out[column] = (load(gradient, column) * factor[column] - total - normal * along) * scale;
            }
          } else {
#pragma omp simd
            for (int64_t column = 0; column < columns; ++column) {
              const float normal = (in[column] - average) * scale;
              out[column] =
                  (load(gradient, column) * factor[column] - total - normal * along) * scale + extra[column];
            }
          }
          const bool last = row + 1 == chunk.end;
          if (separate) {
            Outgoing* branch = elements<Outgoing>(dBranch) + at;
            const float* kept = mask.of(row);
#pragma omp simd
            for (int64_t column = 0; column < columns; ++column) {
              const float value = out[column] * kept[column];
              store(branch, column, value);
              biasSum[column] += value;
            }
          } else if (wantsBias) {
#pragma omp simd
            for (int64_t column = 0; column < columns; ++column) biasSum[column] += out[column];
          }
          gains.endRow(chunk.chunk, row - chunk.begin, last);
          shifts.endRow(chunk.chunk, row - chunk.begin, last);
          if (wantsBias) biases.endRow(chunk.chunk, row - chunk.begin, last);
        }
      });
    });
  });
  return {dx, gains.total(), shifts.total(), dBranch, wantsBias ? biases.total() : at::Tensor()};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(espalier, library) {
  library.def("add_residual(Tensor branch, Tensor bias, Tensor residual, float rate, int seed) -> Tensor");
  library.def("add_residual_backward(Tensor dy, float rate, int seed, ScalarType type) -> (Tensor, Tensor)");
  library.def(
      "residual_layer_norm(Tensor branch, Tensor bias, Tensor residual, Tensor gain, Tensor shift, float epsilon, "
      "float rate, int seed, bool with_copy) -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  library.def(
      "layer_norm(Tensor x, Tensor gain, Tensor shift, float epsilon, ScalarType type) -> (Tensor, Tensor, Tensor)");
  library.def(
      "layer_norm_backward(Tensor dy, Tensor x, Tensor mean, Tensor rstd, Tensor gain, Tensor? plus, float rate, "
      "int seed, ScalarType? branch_type) -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(espalier, CPU, library) {
  library.impl("add_residual", addResidual);
  library.impl("add_residual_backward", addResidualBackward);
  library.impl("residual_layer_norm", residualLayerNorm);
  library.impl("layer_norm", layerNorm);
  library.impl("layer_norm_backward", layerNormBackward);
}
