// The inner loops: what a call gets, what it gives, and how it steps. See docs/NATIVE.md.
#pragma once
#include <cstdint>

#include "kernels.h"
#include "losses.h"

namespace lpml {

// Codes that an update clipped are counted in one step of so many.
constexpr int64_t kCountEvery = 8;

// Rows are fetched so many steps before their turn: in two rows' time for long ones, while short
// ones, done in less time than a fetch takes, are fetched earlier.
inline int64_t steps_ahead(int64_t row_bytes) {
  constexpr int64_t window = 8192;
  const int64_t rows = window / row_bytes;
  return rows < 2 ? 2 : rows > 16 ? 16 : rows;
}

// What all inner loops are told.
struct Samples {
  int64_t size;     // N
  int64_t stride;   // entries of a row, padded
  int64_t outputs;  // K
  const int32_t* index;
  int64_t count;  // steps
  Loss loss;
  const float* at_anchor;  // (N, K) predictions at the anchor; null for squared error
  int threads;
};

struct Report {
  int64_t saturated = 0;  // codes that were clipped in one step of kCountEvery
  int32_t peak = 0;       // largest |code| after those steps
  double steepest = 0;    // largest |coefficient|: code steps of a coordinate whose row is one
  int64_t clipped = 0;    // coefficients that did not fit their integer
  int64_t first_bad = -1;  // first step of the call with a number that is not finite
};

template <typename Code>
struct Halp {
  Samples samples;
  const Code* rows;
  Code* z;              // (K, stride)
  const int16_t* h;     // (K, stride)
  uint64_t* noise;      // (K, chunks, kLanes)
  uint64_t seed;        // of the coefficients' rounding
  int64_t first_step;   // absolute number of the first step
  double unit;          // change of an output by a sum of one
  double gain;          // code steps of a coordinate, for a row entry of one, per unit of slope
  double decay;         // share of the offset that a step takes away (rate times l2)
  int shift;            // 8 bits: F; 16 bits: K, h counts 2^K
};

struct Svrg {
  Samples samples;
  const float* rows;
  float* z;          // (K, stride): offset from the anchor; the weights themselves for SGD
  const float* h;    // (K, stride): rate times full gradient; null for SGD
  const float* y;    // (N): for SGD, whose slopes are whole derivatives
  double rate;
  double keep;  // 1 - rate l2
};

template <typename Code>
Report run(const Set& set, const Halp<Code>& call);
Report run(const Set& set, const Svrg& call);

extern template Report run(const Set&, const Halp<int8_t>&);
extern template Report run(const Set&, const Halp<int16_t>&);

// A pass over codes: moves the outputs by exact integer products with the codes of the step
// between two anchors, and sums the gradient of the mean loss in double precision.
struct CodedPass {
  const int8_t* rows;
  const int8_t* z;  // (K, stride)
  const double* y;
  int64_t size, stride, outputs;
  Loss loss;
  double unit;     // change of an output by a sum of one
  double scale;    // of the rows
  double* a;       // (N, K): outputs at the anchor, moved in place
  double* sum;     // (K, stride): gradient
  float* p;        // (N, K): predictions
  int threads;
};
double pass(const Set& set, const CodedPass& call);  // the mean loss

// Rows of any length, times `scale`.
template <typename Row>
struct FloatPass {
  const Row* rows;
  const double* w;  // (K, stride)
  const double* y;
  int64_t size, stride, outputs;
  Loss loss;
  double scale;
  double* sum;
  float* p;
  int threads;
};
double pass(const Set& set, const FloatPass<int8_t>& call);
double pass(const Set& set, const FloatPass<float>& call);
double pass(const Set& set, const FloatPass<double>& call);

}  // namespace lpml
