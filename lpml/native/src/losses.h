// What a change of a sample's outputs does to the derivative of its loss: in double precision
// and without subtracting close numbers, whatever the size of the change. One translation unit
// computes them, so that every instruction set steps by the same coefficients.
#pragma once
#include <cmath>
#include <cstdint>

namespace lpml {

enum class Loss : int64_t { kSquared = 0, kLogistic = 1, kSoftmax = 2 };

// The nearest whole number, ties to even, of |x| < 2^51: without an instruction that only newer
// processors have.
inline double to_whole(double x) { return (x + 0x1.8p52) - 0x1.8p52; }

// e^x - 1, relative error below 1e-9, without the library's: its digits differ by machine.
inline double exp_minus_1(double x) {
  if (!(x < 700)) return x < 1e300 ? std::ldexp(1.0, 1000) : x + 1;  // a NaN stays one
  if (x < -40) return -1;
  const double k = to_whole(x * 1.4426950408889634);
  const double r = (x - k * 0.693147180369123816490) - k * 1.90821492927058770002e-10;
  // the series of (e^r - 1) / r, |r| < 0.35
  const double r2 = r * r, r4 = r2 * r2;
  const double low = (1.0 + r * (1.0 / 2)) + r2 * (1.0 / 6 + r * (1.0 / 24));
  const double high = (1.0 / 120 + r * (1.0 / 720)) + r2 * (1.0 / 5040 + r * (1.0 / 40320));
  const double series = r * (low + r4 * (high + r4 * (1.0 / 362880)));
  const int64_t shift = static_cast<int64_t>(k);
  if (!shift) return series;
  double power;
  const uint64_t bits = static_cast<uint64_t>(shift + 1023) << 52;
  __builtin_memcpy(&power, &bits, sizeof power);
  return power * series + (power - 1);
}

// A prediction that is a number between 0 and 1 in floats too, so that nothing below is 0 / 0.
inline double inside(float p) { return std::fmin(std::fmax(p, 1e-37), 1 - 0x1p-24); }

// slopes[k] = l'(a + change)[k] - l'(a)[k], where p is the prediction at a: a probability, or
// one for each class. Squared error has no use for p.
inline void differences(Loss loss, const float* p, const double* change, int64_t outputs,
                        double* slopes) {
  if (loss == Loss::kSquared) {
    for (int64_t k = 0; k < outputs; ++k) slopes[k] = 2 * change[k];
  } else if (loss == Loss::kLogistic) {
    for (int64_t k = 0; k < outputs; ++k) {
      const double growth = exp_minus_1(change[k]), q = inside(p[k]);
      slopes[k] = q * (1 - q) * growth / (1 + q * growth);
    }
  } else {
    // softmax knows no common shift; centred, the growths keep their digits
    double mean = 0, largest = -INFINITY, excess = 0;
    for (int64_t k = 0; k < outputs; ++k) mean += inside(p[k]) * change[k];
    for (int64_t k = 0; k < outputs; ++k) largest = std::fmax(largest, change[k] - mean);
    // not before it must be: the growths' mean is at least 0 by Jensen, and shifted too far it
    // would come close to -1, where all digits of 1 + excess are lost
    const double shift = largest > 600 ? largest - 600 : 0;
    for (int64_t k = 0; k < outputs; ++k) {
      slopes[k] = exp_minus_1(change[k] - mean - shift);
      excess += inside(p[k]) * slopes[k];
    }
    for (int64_t k = 0; k < outputs; ++k)
      slopes[k] = inside(p[k]) * (slopes[k] - excess) / (1 + excess);
  }
}

// slopes[k] = l'(a)[k] and the predictions p, for the pass over the data; y is a number or a
// class. Returns the loss.
inline double derivatives(Loss loss, const double* a, double y, int64_t outputs, double* slopes,
                          float* p) {
  if (loss == Loss::kSquared) {
    slopes[0] = 2 * (a[0] - y);
    return (a[0] - y) * (a[0] - y);
  }
  if (loss == Loss::kLogistic) {
    const double e = std::exp(-std::fabs(a[0]));
    const double q = a[0] >= 0 ? 1 / (1 + e) : e / (1 + e);
    // of a confident answer: the rest to 1 itself, not 1 minus what is nearly 1
    const double rest = a[0] >= 0 ? e / (1 + e) : 1 / (1 + e);
    slopes[0] = y > 0 ? -rest : q;
    p[0] = static_cast<float>(q);
    return std::log1p(e) + (y > 0 ? std::fmax(-a[0], 0) : std::fmax(a[0], 0));
  }
  double largest = -INFINITY, sum = 0;
  for (int64_t k = 0; k < outputs; ++k) largest = std::fmax(largest, a[k]);
  for (int64_t k = 0; k < outputs; ++k) sum += slopes[k] = std::exp(a[k] - largest);
  const int64_t label = static_cast<int64_t>(y);
  for (int64_t k = 0; k < outputs; ++k) {
    const double q = slopes[k] / sum;
    slopes[k] = q - (k == label);
    p[k] = static_cast<float>(q);
  }
  return std::log(sum) + largest - a[label];
}

}  // namespace lpml
