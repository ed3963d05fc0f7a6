// Sums of matrices whose rows and columns are picked by index and scaled: how a model's parameters grow in width. Every
// element of the result is written once, in one pass: growth is then as long as the memory that it fills.

#define AT_PER_OPERATOR_HEADERS
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "vector-loops.h"

namespace {

using namespace espalier;

/// A set of terms, as bits.
using Terms = uint64_t;
constexpr int64_t kMostTerms = 64;

/// Below this many neighbours in a row, their own loop costs more than picking them one by one.
constexpr int64_t kShortestRun = 32;

/// Columns [begin, end) that a term takes one by one, or, from `first` on, as they follow each other in the source.
struct Run {
  int64_t begin;
  int64_t end;
  int64_t first;  // -1: one by one
};

/// Columns [begin, end) that the same terms give something to.
struct Segment {
  int64_t begin;
  int64_t end;
  Terms terms;
  std::vector<std::vector<Run>> runs;  // of each term
};

/// One source with the indices and scales of the result's rows and columns.
struct Term {
  const float* source;
  int64_t sourceColumns;
  const int32_t* rows;
  const int32_t* columns;
  const float* rowScales;
  const float* columnScales;
};

void checkIndices(const int32_t* indices, int64_t count, int64_t size, const char* axis) {
  int32_t least = 0;
  int32_t most = 0;
#pragma omp simd reduction(min : least) reduction(max : most)
  for (int64_t at = 0; at < count; ++at) {
    least = std::min(least, indices[at]);
    most = std::max(most, indices[at]);
  }
  TORCH_CHECK(least >= 0 && most < std::max<int64_t>(size, 1), axis, " index ", least < 0 ? least : most,
              " is not in [0, ", size, ")");
}

std::vector<Run> runsOf(const int32_t* indices, int64_t begin, int64_t end) {
  std::vector<Run> runs;
  for (int64_t first = begin; first < end;) {
    int64_t next = first + 1;
    while (next < end && indices[next] == indices[next - 1] + 1) ++next;
    if (next - first >= kShortestRun) {
      runs.push_back({first, next, indices[first]});
    } else if (!runs.empty() && runs.back().first < 0) {
      runs.back().end = next;
    } else {
      runs.push_back({first, next, -1});
    }
    first = next;
  }
  return runs;
}

/// The columns by the terms that give something to them: AKI's old and new ones come from different layers.
std::vector<Segment> segmentsOf(const std::vector<Term>& terms, int64_t columns) {
  std::vector<Segment> segments;
  for (int64_t column = 0; column < columns; ++column) {
    Terms here = 0;
    for (size_t term = 0; term < terms.size(); ++term) {
      if (terms[term].columnScales[column] != 0) here |= Terms{1} << term;
    }
    if (segments.empty() || segments.back().terms != here) segments.push_back({column, column, here, {}});
    segments.back().end = column + 1;
  }
  for (Segment& segment : segments) {
    for (size_t term = 0; term < terms.size(); ++term) {
      const bool gives = (segment.terms >> term & 1) != 0;
      segment.runs.push_back(gives ? runsOf(terms[term].columns, segment.begin, segment.end) : std::vector<Run>());
    }
  }
  return segments;
}

struct Assign {
  static float of(float, float value) { return value; }
};
struct Add {
  static float of(float before, float value) { return before + value; }
};

/// Gives a term to a row of the result.
template <typename Put>
void give(const Term& term, const std::vector<Run>& runs, int64_t row, float* out) {
  const float* source = term.source + term.rows[row] * term.sourceColumns;
  const float* scales = term.columnScales;
  const int32_t* indices = term.columns;
  const float scale = term.rowScales[row];
  for (const Run& run : runs) {
    if (run.first >= 0) {
      const float* from = source + run.first - run.begin;
#pragma omp simd
      for (int64_t column = run.begin; column < run.end; ++column) {
        out[column] = Put::of(out[column], from[column] * scales[column] * scale);
      }
    } else {
#pragma omp simd
      for (int64_t column = run.begin; column < run.end; ++column) {
        out[column] = Put::of(out[column], source[indices[column]] * scales[column] * scale);
      }
    }
  }
}

/// Writes a row of the result.
void writeRow(const std::vector<Term>& terms, const std::vector<Segment>& segments, int64_t row, float* out) {
  Terms giving = 0;
  for (size_t term = 0; term < terms.size(); ++term) {
    if (terms[term].rowScales[row] != 0) giving |= Terms{1} << term;
  }
  for (const Segment& segment : segments) {
    bool written = false;
    for (size_t term = 0; term < terms.size(); ++term) {
      if (((giving & segment.terms) >> term & 1) == 0) continue;
      if (written) {
        give<Add>(terms[term], segment.runs[term], row, out);
      } else {
        give<Assign>(terms[term], segment.runs[term], row, out);
      }
      written = true;
    }
    if (!written) std::fill(out + segment.begin, out + segment.end, 0.0f);
  }
}

/// Σ over sources: row scale · column scale · source[row index][column index]. A source takes no part where one of its
/// scales is 0. The terms are added in their order.
///
/// @param sources matrices, float32
/// @param indices [sources, rows + columns] int32: of the result's rows, then of its columns
/// @param scales [sources, rows + columns] float32
/// @returns [rows, columns]
at::Tensor indexedSum(at::TensorList sources, const at::Tensor& indices, const at::Tensor& scales, int64_t rows,
                      int64_t columns) {
  const int64_t count = static_cast<int64_t>(sources.size());
  const int64_t width = rows + columns;
  TORCH_CHECK(count >= 1 && count <= kMostTerms, "expected 1 to ", kMostTerms, " sources, got ", count);
  TORCH_CHECK(indices.scalar_type() == at::kInt && indices.numel() == count * width && indices.is_contiguous(),
              "indices must hold ", count * width, " int32 values, got ", indices.sizes(), " of ",
              indices.scalar_type());
  const float* scaleOf = vectorOf(scales, count * width, "scales");
  const int32_t* indexOf = indices.data_ptr<int32_t>();
  std::vector<Term> terms;
  for (int64_t term = 0; term < count; ++term) {
    const at::Tensor& source = sources[term];
    checkMatrix(source, "source");
    TORCH_CHECK(source.scalar_type() == at::kFloat, "a source must be float32, got ", source.scalar_type());
    const int32_t* own = indexOf + term * width;
    checkIndices(own, rows, source.size(0), "row");
    checkIndices(own + rows, columns, source.size(1), "column");
    const float* ownScales = scaleOf + term * width;
    terms.push_back({source.data_ptr<float>(), source.size(1), own, own + rows, ownScales, ownScales + rows});
  }
  const std::vector<Segment> segments = segmentsOf(terms, columns);
  at::Tensor result = at::empty({rows, columns}, at::TensorOptions().dtype(at::kFloat));
  float* values = result.data_ptr<float>();
  overRows(rows, chunksOf(rows, columns), [&](Rows chunk) {
    for (int64_t row = chunk.begin; row < chunk.end; ++row) writeRow(terms, segments, row, values + row * columns);
  });
  return result;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(espalier, library) {
  library.def("indexed_sum_for_cpu(Tensor[] sources, Tensor indices, Tensor scales, int rows, int columns) -> Tensor");
}

TORCH_LIBRARY_IMPL(espalier, CPU, library) { library.impl("indexed_sum_for_cpu", indexedSum); }
