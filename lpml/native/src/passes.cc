// Passes over the whole data: outputs, predictions and the gradient of the mean loss.
#include <algorithm>
#include <vector>

#include "loops.h"
#include "team.h"

namespace lpml {
namespace {

// Rows whose part of the sum is in the rows' order, and of floats in single precision.
constexpr int64_t kGroup = 256;

// The gradient's sum of one group of rows, in double precision and in the rows' order.
void add_coded(const Set& set, const CodedPass& c, int64_t first, int64_t last, double* sum,
               double* loss) {
  std::vector<double> slopes(kRows * c.outputs);
  for (int64_t i = first; i < last; i += kRows) {
    const int64_t count = std::min(kRows, last - i);
    for (int64_t b = 0; b < count; ++b) {
      double* a = c.a + (i + b) * c.outputs;
      for (int64_t k = 0; k < c.outputs; ++k)
        a[k] += c.unit * static_cast<double>(set.dot8(
                             c.z + k * c.stride, c.rows + (i + b) * c.stride, {0, c.stride}));
      *loss += derivatives(c.loss, a, c.y[i + b], c.outputs, slopes.data() + b * c.outputs,
                           c.p + (i + b) * c.outputs);
    }
    for (int64_t k = 0; k < c.outputs; ++k)
      set.add_rows8(sum + k * c.stride, c.rows + i * c.stride, c.stride, slopes.data() + k,
                    c.outputs, count, {0, c.stride});
  }
}

void add_floats(const Set& set, const FloatPass& c, int64_t first, int64_t last, double* sum,
                double* loss) {
  std::vector<double> slopes(c.outputs), a(c.outputs);
  std::vector<float> narrow(kRows * c.outputs), part(c.outputs * c.stride, 0.0f);
  for (int64_t i = first; i < last; i += kRows) {
    const int64_t count = std::min(kRows, last - i);
    for (int64_t b = 0; b < count; ++b) {
      for (int64_t k = 0; k < c.outputs; ++k)
        a[k] = set.dot_float(c.w + k * c.stride, c.rows + (i + b) * c.stride, {0, c.stride});
      *loss += derivatives(c.loss, a.data(), c.y[i + b], c.outputs, slopes.data(),
                           c.p + (i + b) * c.outputs);
      for (int64_t k = 0; k < c.outputs; ++k)
        narrow[b * c.outputs + k] = static_cast<float>(slopes[k]);
    }
    for (int64_t k = 0; k < c.outputs; ++k)
      set.add_rows_float(part.data() + k * c.stride, c.rows + i * c.stride, c.stride,
                         narrow.data() + k, c.outputs, count, {0, c.stride});
  }
  for (size_t j = 0; j < part.size(); ++j) sum[j] += part[j];
}

template <typename Call, typename Add>
double passed(const Set& set, const Call& c, double factor, Add add) {
  const int64_t entries = c.outputs * c.stride;
  const int64_t groups = (c.size + kGroup - 1) / kGroup;
  std::fill(c.sum, c.sum + entries, 0.0);
  double loss = 0;
  if (c.threads == 1) {
    for (int64_t g = 0; g < groups; ++g)
      add(set, c, g * kGroup, std::min(c.size, (g + 1) * kGroup), c.sum, &loss);
  } else {
    std::vector<std::vector<double>> sums(c.threads, std::vector<double>(entries, 0.0));
    std::vector<double> losses(c.threads, 0.0);
    together(c.threads, [&](int member) {
      const int64_t stop = groups * (member + 1) / c.threads;
      for (int64_t g = groups * member / c.threads; g < stop; ++g)
        add(set, c, g * kGroup, std::min(c.size, (g + 1) * kGroup), sums[member].data(),
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
  return passed(set, call, call.scale, add_coded);
}

double pass(const Set& set, const FloatPass& call) { return passed(set, call, 1.0, add_floats); }

}  // namespace lpml
