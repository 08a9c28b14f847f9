// Passes over the whole data: outputs, predictions and the gradient of the mean loss.
#include <algorithm>
#include <cmath>
#include <vector>

#include "loops.h"
#include "team.h"

namespace lpml {
namespace {

// Rows of floats that a thread takes at a time.
constexpr int64_t kGroup = 256;

// Rows of codes that are gone through twice, first for the outputs and then for the gradient:
// as many as a core's cache holds. It depends on nothing but the rows, so neither does the sum.
int64_t group_of(int64_t stride) {
  const int64_t fit = (int64_t{1} << 18) / stride / kRows * kRows;
  return std::min(std::max(fit, kRows), kMostRows);
}

// The derivatives of a group in limbs; returns what a unit of the last limb stands for.
double split(const double* slopes, int64_t outputs, int64_t count, Limbs* limbs) {
  constexpr int bits = kLimbs * kLimbBits - 1;
  constexpr int64_t base = 1 << kLimbBits, half = base / 2;
  double largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double size = std::fabs(slopes[i * outputs]);
    if (!(size <= largest)) largest = size;  // a NaN stays, being above everything
    if (!(largest < INFINITY)) break;
  }
  if (!(largest < INFINITY)) {
    std::fill(limbs, limbs + (count + 1) / 2, Limbs{});
    return NAN;
  }
  int exponent = 0;
  if (largest > 0) std::frexp(largest, &exponent);
  for (int64_t i = 0; i < count + count % 2; ++i) {
    const double slope = i < count ? slopes[i * outputs] : 0;
    int64_t rest = static_cast<int64_t>(to_whole(std::ldexp(slope, bits - exponent)));
    for (int limb = kLimbs - 1; limb > 0; --limb) {
      const int64_t low = ((rest + half) & (base - 1)) - half;
      limbs[i / 2].pair[limb][i % 2] = static_cast<int16_t>(low);
      rest = (rest - low) / base;
    }
    limbs[i / 2].pair[0][i % 2] = static_cast<int16_t>(rest);
  }
  return std::ldexp(1.0, exponent - bits);
}

void add_coded(const Set& set, const CodedPass& c, int64_t first, int64_t last, double* sum,
               double* loss) {
  const int64_t count = last - first;
  const Range all = {0, c.stride};
  std::vector<double> slopes(count * c.outputs);
  for (int64_t i = 0; i < count; ++i) {
    double* a = c.a + (first + i) * c.outputs;
    const int8_t* row = c.rows + (first + i) * c.stride;
    for (int64_t k = 0; k < c.outputs; ++k)
      a[k] += c.unit * static_cast<double>(set.dot8(c.z + k * c.stride, row, all));
    *loss += derivatives(c.loss, a, c.y[first + i], c.outputs, slopes.data() + i * c.outputs,
                         c.p + (first + i) * c.outputs);
  }
  std::vector<int32_t> sums(kLimbs * c.stride, 0);
  std::vector<Limbs> limbs((count + 1) / 2);
  for (int64_t k = 0; k < c.outputs; ++k) {
    const double unit = split(slopes.data() + k, c.outputs, count, limbs.data());
    for (int64_t i = 0; i < count; i += kRows)
      set.add_rows8(sums.data(), c.rows + (first + i) * c.stride, c.stride,
                    limbs.data() + i / 2, std::min(kRows, count - i), all);
    set.fold8(sum + k * c.stride, sums.data(), c.stride, unit, all);
  }
}

const Products<int8_t>& products(const Set& set, const int8_t*) { return set.of_codes; }
const Products<float>& products(const Set& set, const float*) { return set.of_floats; }
const Products<double>& products(const Set& set, const double*) { return set.of_doubles; }

template <typename Row>
void add_floats(const Set& set, const FloatPass<Row>& c, int64_t first, int64_t last,
                double* sum, double* loss) {
  const Products<Row>& of = products(set, c.rows);
  std::vector<double> slopes(kRows * c.outputs), a(c.outputs);
  for (int64_t i = first; i < last; i += kRows) {
    const int64_t count = std::min(kRows, last - i);
    for (int64_t b = 0; b < count; ++b) {
      for (int64_t k = 0; k < c.outputs; ++k)
        a[k] = c.scale * of.dot(c.w + k * c.stride, c.rows + (i + b) * c.stride, c.stride);
      *loss += derivatives(c.loss, a.data(), c.y[i + b], c.outputs,
                           slopes.data() + b * c.outputs, c.p + (i + b) * c.outputs);
    }
    for (int64_t k = 0; k < c.outputs; ++k)
      of.add_rows(sum + k * c.stride, c.rows + i * c.stride, c.stride, slopes.data() + k,
                  c.outputs, count, c.stride);
  }
}

template <typename Call, typename Add>
double passed(const Set& set, const Call& c, double factor, int64_t group, Add add) {
  const int64_t entries = c.outputs * c.stride;
  const int64_t groups = (c.size + group - 1) / group;
  std::fill(c.sum, c.sum + entries, 0.0);
  double loss = 0;
  if (c.threads == 1) {
    for (int64_t g = 0; g < groups; ++g)
      add(set, c, g * group, std::min(c.size, (g + 1) * group), c.sum, &loss);
  } else {
    std::vector<std::vector<double>> sums(c.threads, std::vector<double>(entries, 0.0));
    std::vector<double> losses(c.threads, 0.0);
    together(c.threads, [&](int member) {
      const int64_t stop = groups * (member + 1) / c.threads;
      for (int64_t g = groups * member / c.threads; g < stop; ++g)
        add(set, c, g * group, std::min(c.size, (g + 1) * group), sums[member].data(),
            &losses[member]);
    });
    for (int member = 0; member < c.threads; ++member) {
      for (int64_t j = 0; j < entries; ++j) c.sum[j] += sums[member][j];
      loss += losses[member];
    }
  }
  const double size = static_cast<double>(c.size);
  for (int64_t j = 0; j < entries; ++j) c.sum[j] *= factor / size;
  return loss / size;
}

}  // namespace

double pass(const Set& set, const CodedPass& call) {
  return passed(set, call, call.scale, group_of(call.stride), add_coded);
}

double pass(const Set& set, const FloatPass<int8_t>& call) {
  return passed(set, call, call.scale, kGroup, add_floats<int8_t>);
}
double pass(const Set& set, const FloatPass<float>& call) {
  return passed(set, call, call.scale, kGroup, add_floats<float>);
}
double pass(const Set& set, const FloatPass<double>& call) {
  return passed(set, call, call.scale, kGroup, add_floats<double>);
}

}  // namespace lpml
