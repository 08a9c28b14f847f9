// The steps of the inner loops: scalars here, vectors in a `Set`.
#include "loops.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "team.h"

namespace lpml {
namespace {

// Sebastiano Vigna's splitmix64: a hash of seed and number, and so the same wherever a call
// begins.
uint64_t mixed(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

constexpr int32_t kLargest = 32767;

// A coefficient in its integer unit, stochastically rounded.
int32_t rounded(double wanted, uint64_t word, Report* report) {
  const double uniform = (static_cast<double>(word >> 32) + 0.5) * 0x1p-32;
  const double value = wanted + (uniform - 0.5);
  if (value > -kLargest && value < kLargest)
    return static_cast<int32_t>(to_whole(value));
  report->clipped += 1;  // of a NaN too: it is reported as such besides
  return value < 0 ? -kLargest : kLargest;
}

// What differs between the widths of codes.
template <typename Code>
struct Width;

template <>
struct Width<int8_t> {
  using Copy = std::unique_ptr<int16_t[]>;
  static double units(int shift) { return std::ldexp(1.0, shift + 7); }
  static int32_t second(int) { return 0; }
  static Copy arranged(const int16_t* h, int64_t size) {
    Copy copy(new int16_t[size]);
    interleave(h, copy.get(), size);
    return copy;
  }
  static const int16_t* where(const Copy& copy, const int16_t*) { return copy.get(); }
  static UpdateFn<int8_t> update(const Set& set, int shift, bool counting) {
    return set.update8[shift - kLeastFraction][counting];
  }
  static DecayFn<int8_t> decay(const Set& set, int shift) {
    return set.decay8[shift - kLeastFraction];
  }
  static Dot<int8_t> dot(const Set& set) { return set.dot8; }
  // Steps between two decays: few enough that a code's share is not lost in rounding.
  static double lump(int shift) { return std::ldexp(1.0, 5 - shift); }
};

template <>
struct Width<int16_t> {
  struct Copy {};
  static double units(int) { return 0x1p16; }
  static int32_t second(int shift) { return 1 << shift; }
  static Copy arranged(const int16_t*, int64_t) { return {}; }
  static const int16_t* where(const Copy&, const int16_t* h) { return h; }
  static UpdateFn<int16_t> update(const Set& set, int, bool counting) {
    return set.update16[counting];
  }
  static DecayFn<int16_t> decay(const Set& set, int) { return set.decay16; }
  static Dot<int16_t> dot(const Set& set) { return set.dot16; }
  static double lump(int) { return 0x1p-5; }
};

// The L2 term of the offset, taken in lumps of `period` steps.
struct Lumps {
  int64_t period = 0;  // 0: no decay
  int32_t factor = 0;
  Lumps(double decay, double lump, double units) {
    if (!(decay > 0)) return;
    period = static_cast<int64_t>(std::max(1.0, std::min(std::floor(lump / decay), 1024.0)));
    const double wanted = period * decay * units;
    factor = static_cast<int32_t>(to_whole(std::min(wanted, static_cast<double>(kLargest))));
  }
  bool due(int64_t step) const { return period && (step + 1) % period == 0; }
};

template <typename Code>
class Member {
 public:
  Member(const Set& set, const Halp<Code>& call, int member, Meeting<int64_t>* meeting,
         const int16_t* h)
      : set_(set), call_(call), s_(call.samples), member_(member), meeting_(meeting), h_(h),
        range_(share(s_.stride, member, s_.threads)),
        units_(Width<Code>::units(call.shift)),
        lumps_(call.decay, Width<Code>::lump(call.shift), units_),
        ahead_(steps_ahead(s_.stride * sizeof(Code))),
        chunks_((s_.stride + kChunk - 1) / kChunk),
        products_(s_.outputs), changes_(s_.outputs), slopes_(s_.outputs) {}

  Report run() {
    for (int64_t k = 0; k < s_.outputs; ++k)
      products_[k] = Width<Code>::dot(set_)(vector(k), row(0), range_);
    meeting_->sum(member_, products_.data(), s_.outputs);
    if (s_.outputs == 1)
      for (int64_t t = 0; t < s_.count; ++t) step<true>(t);
    else
      for (int64_t t = 0; t < s_.count; ++t) step<false>(t);
    report_.saturated = tally_.saturated;
    report_.peak = tally_.peak;
    return report_;
  }

 private:
  const Code* row(int64_t t) const {
    return call_.rows + s_.stride * s_.index[std::min(t, s_.count - 1)];
  }
  Code* vector(int64_t k) const { return call_.z + k * s_.stride; }

  // One output's scalars stay in registers: in a short row they are most of the time.
  template <bool One>
  void step(int64_t t) {
    const int64_t step = call_.first_step + t, outputs = One ? 1 : s_.outputs;
    double only_change, only_slope;
    double* const changes = One ? &only_change : changes_.data();
    double* const slopes = One ? &only_slope : slopes_.data();
    const float* p = s_.at_anchor ? s_.at_anchor + s_.outputs * s_.index[t] : nullptr;
    if (s_.at_anchor && t + ahead_ < s_.count)
      __builtin_prefetch(s_.at_anchor + s_.outputs * s_.index[t + ahead_]);
    for (int64_t k = 0; k < outputs; ++k)
      changes[k] = static_cast<double>(products_[k]) * call_.unit;
    differences(s_.loss, p, changes, outputs, slopes);
    const bool counting = step % kCountEvery == 0;
    const UpdateFn<Code> update = Width<Code>::update(set_, call_.shift, counting);
    Update<Code> u = {};
    u.row = row(t);
    u.next = row(t + 1);
    u.ahead = t + ahead_ < s_.count ? row(t + ahead_) : nullptr;
    u.second = Width<Code>::second(call_.shift);
    u.range = range_;
    u.tally = &tally_;
    for (int64_t k = 0; k < outputs; ++k) {
      u.z = vector(k);
      u.h = h_ + k * s_.stride;
      u.noise = noise(k);
      u.coefficient = coefficient(slopes[k], step * outputs + k, t);
      products_[k] = update(u);
      u.ahead = nullptr;  // one output fetches for all
    }
    if (lumps_.due(step)) decay(t);
    meeting_->sum(member_, products_.data(), s_.outputs);
  }

  // `number` tells this rounding from all others of the run.
  int32_t coefficient(double slope, int64_t number, int64_t t) {
    const double moves = slope * call_.gain;
    const double size = std::fabs(moves);
    if (!(size <= report_.steepest)) report_.steepest = std::isfinite(size) ? size : 0;
    if (!std::isfinite(size) && report_.first_bad < 0) report_.first_bad = t;
    const uint64_t turn = static_cast<uint64_t>(number) + 1;
    const uint64_t word = mixed(call_.seed + turn * 0x9E3779B97F4A7C15u);
    return rounded(moves * units_, word, &report_);
  }

  void decay(int64_t t) {
    Decay<Code> d = {};
    d.next = row(t + 1);
    d.factor = lumps_.factor;
    d.range = range_;
    for (int64_t k = 0; k < s_.outputs; ++k) {
      d.z = vector(k);
      d.noise = noise(k);
      products_[k] = Width<Code>::decay(set_, call_.shift)(d);
    }
  }

  uint64_t* noise(int64_t k) const { return call_.noise + k * chunks_ * kLanes; }

  const Set& set_;
  const Halp<Code>& call_;
  const Samples& s_;
  const int member_;
  Meeting<int64_t>* const meeting_;
  const int16_t* const h_;
  const Range range_;
  const double units_;
  const Lumps lumps_;
  const int64_t ahead_;
  const int64_t chunks_;
  std::vector<int64_t> products_;
  std::vector<double> changes_, slopes_;
  Tally tally_;
  Report report_;
};

// No more threads than there are chunks to share out: the others would only be waited for.
int with_work(const Samples& s) {
  return static_cast<int>(std::min<int64_t>(s.threads, (s.stride + kChunk - 1) / kChunk));
}

// Members see the same coefficients, so that all but their tallies agree.
Report joined(const std::vector<Report>& reports) {
  Report all = reports.front();
  for (size_t i = 1; i < reports.size(); ++i) {
    all.saturated += reports[i].saturated;
    all.peak = std::max(all.peak, reports[i].peak);
  }
  return all;
}

class FloatMember {
 public:
  FloatMember(const Set& set, const Svrg& call, int member, Meeting<float>* meeting)
      : set_(set), call_(call), s_(call.samples), member_(member), meeting_(meeting),
        range_(share(s_.stride, member, s_.threads)),
        ahead_(steps_ahead(s_.stride * sizeof(float))), products_(s_.outputs),
        changes_(s_.outputs), slopes_(s_.outputs), predictions_(s_.outputs) {}

  Report run() {
    for (int64_t k = 0; k < s_.outputs; ++k)
      products_[k] = set_.dot_float(call_.z + k * s_.stride, row(0), range_);
    meeting_->sum(member_, products_.data(), s_.outputs);
    for (int64_t t = 0; t < s_.count; ++t) step(t);
    return report_;
  }

 private:
  const float* row(int64_t t) const {
    return call_.rows + s_.stride * s_.index[std::min(t, s_.count - 1)];
  }

  void step(int64_t t) {
    const int64_t sample = s_.index[t];
    for (int64_t k = 0; k < s_.outputs; ++k) changes_[k] = products_[k];
    if (call_.y) {
      derivatives(s_.loss, changes_.data(), call_.y[sample], s_.outputs, slopes_.data(),
                  predictions_.data());
    } else {
      const float* p = s_.at_anchor ? s_.at_anchor + s_.outputs * sample : nullptr;
      if (s_.at_anchor && t + ahead_ < s_.count)
        __builtin_prefetch(s_.at_anchor + s_.outputs * s_.index[t + ahead_]);
      differences(s_.loss, p, changes_.data(), s_.outputs, slopes_.data());
    }
    FloatUpdate u = {};
    u.row = row(t);
    u.next = row(t + 1);
    u.ahead = t + ahead_ < s_.count ? row(t + ahead_) : nullptr;
    u.keep = static_cast<float>(call_.keep);
    u.range = range_;
    for (int64_t k = 0; k < s_.outputs; ++k) {
      u.z = call_.z + k * s_.stride;
      u.h = call_.h ? call_.h + k * s_.stride : nullptr;
      u.coefficient = static_cast<float>(call_.rate * slopes_[k]);
      if (!std::isfinite(u.coefficient) && report_.first_bad < 0) report_.first_bad = t;
      products_[k] = set_.update_float(u);
      u.ahead = nullptr;
    }
    meeting_->sum(member_, products_.data(), s_.outputs);
  }

  const Set& set_;
  const Svrg& call_;
  const Samples& s_;
  const int member_;
  Meeting<float>* const meeting_;
  const Range range_;
  const int64_t ahead_;
  std::vector<float> products_;
  std::vector<double> changes_, slopes_;
  std::vector<float> predictions_;
  Report report_;
};

}  // namespace

template <typename Code>
Report run(const Set& set, const Halp<Code>& wanted) {
  Halp<Code> call = wanted;
  Samples& s = call.samples;
  s.threads = with_work(s);
  const auto copy = Width<Code>::arranged(call.h, s.outputs * s.stride);
  const int16_t* h = Width<Code>::where(copy, call.h);
  Meeting<int64_t> meeting(s.threads, s.outputs);
  std::vector<Report> reports(s.threads);
  together(s.threads, [&](int member) {
    reports[member] = Member<Code>(set, call, member, &meeting, h).run();
  });
  return joined(reports);
}

template Report run(const Set&, const Halp<int8_t>&);
template Report run(const Set&, const Halp<int16_t>&);

Report run(const Set& set, const Svrg& wanted) {
  Svrg call = wanted;
  call.samples.threads = with_work(call.samples);
  Meeting<float> meeting(call.samples.threads, call.samples.outputs);
  std::vector<Report> reports(call.samples.threads);
  together(call.samples.threads, [&](int member) {
    reports[member] = FloatMember(set, call, member, &meeting).run();
  });
  return joined(reports);
}

}  // namespace lpml
