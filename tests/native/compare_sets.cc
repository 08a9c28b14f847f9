// Calls every function of an instruction set and of the plain one on the same random numbers,
// of odd lengths and with extremes, and says where they differ. Built by test_sources.py: once
// with AVX-512 computed in software, and once with all sets and the compiler's sanitizers.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "kernels.h"
#include "loops.h"

using namespace lpml;

namespace {

int failures = 0;
std::mt19937_64 source(7);

void check(bool same, const char* what, int64_t size) {
  if (same) return;
  std::printf("%s differs at %ld coordinates\n", what, static_cast<long>(size));
  ++failures;
}

template <typename T>
using Buffer = std::vector<T>;

// Numbers over the whole range, with its ends more often than chance has it.
template <typename T>
Buffer<T> numbers(int64_t size, int64_t low, int64_t high) {
  std::uniform_int_distribution<int64_t> any(low, high);
  Buffer<T> made(size);
  for (T& n : made) {
    const int64_t kind = static_cast<int64_t>(source() % 16);
    n = static_cast<T>(kind == 0 ? low : kind == 1 ? high : kind == 2 ? 0 : any(source));
  }
  return made;
}

Buffer<float> floats(int64_t size) {
  std::normal_distribution<float> normal;
  Buffer<float> made(size);
  for (float& x : made) x = normal(source);
  return made;
}

template <typename Code>
void integers(const Set& set, int64_t size) {
  constexpr bool narrow = sizeof(Code) == 1;
  const int64_t top = narrow ? 127 : 32767;
  const Range range = {0, size};
  const auto z = numbers<Code>(size, -top - 1, top), row = numbers<Code>(size, -top, top);
  const auto next = numbers<Code>(size, -top, top);
  const auto h = numbers<int16_t>(size, -32767, 32767);
  auto noise = numbers<uint64_t>((size + kChunk - 1) / kChunk * kLanes, 1, INT64_MAX);
  const auto dot = [](const Set& s) {
    if constexpr (narrow) return s.dot8; else return s.dot16;
  };
  check(dot(set)(z.data(), row.data(), range) == dot(plain_set)(z.data(), row.data(), range),
        "dot", size);
  for (int shift = narrow ? kLeastFraction : 0; shift <= kMostFraction; shift += narrow ? 1 : 7)
    for (int counting = 0; counting < 2; ++counting)
      for (int32_t c : {-32767, -1234, 0, 77, 32767}) {
        const auto run = [&](const Set& s, Buffer<Code>& codes, Buffer<uint64_t>& lanes,
                             Tally& tally) {
          Update<Code> u = {codes.data(), row.data(), h.data(), next.data(), row.data(),
                            lanes.data(), c, 1 << shift, range, &tally};
          if constexpr (narrow) return s.update8[shift - kLeastFraction][counting](u);
          else return s.update16[counting](u);
        };
        auto a = z, b = z;
        auto m = noise, n = noise;
        Tally s, t;
        check(run(set, a, m, s) == run(plain_set, b, n, t), "product after an update", size);
        check(a == b && m == n, "update", size);
        check(s.saturated == t.saturated && s.peak == t.peak, "counts", size);
        const auto shrink = [&](const Set& set_, Buffer<Code>& codes, Buffer<uint64_t>& lanes) {
          Decay<Code> d = {codes.data(), next.data(), lanes.data(), std::abs(c), range};
          if constexpr (narrow) return set_.decay8[shift - kLeastFraction](d);
          else return set_.decay16(d);
        };
        check(shrink(set, a, m) == shrink(plain_set, b, n), "product after a decay", size);
        check(a == b && m == n, "decay", size);
      }
}

void sums(const Set& set, int64_t size) {
  for (int64_t count = 1; count <= kRows; ++count) {
    const auto rows = numbers<int8_t>(count * size, -127, 127);
    const auto weights = numbers<int16_t>((count + 1) / 2 * kLimbs * 2, -16384, 16384);
    Buffer<Limbs> limbs((count + 1) / 2);
    std::memcpy(limbs.data(), weights.data(), limbs.size() * sizeof(Limbs));
    if (count % 2)
      for (auto& pair : limbs.back().pair) pair[1] = 0;
    auto a = numbers<int32_t>(kLimbs * size, -1000000, 1000000), b = a;
    set.add_rows8(a.data(), rows.data(), size, limbs.data(), count, {0, size});
    plain_set.add_rows8(b.data(), rows.data(), size, limbs.data(), count, {0, size});
    check(a == b, "sums of rows", size);
    Buffer<double> x(size, 0.125), y = x;
    set.fold8(x.data(), a.data(), size, 1.7e-9, {0, size});
    plain_set.fold8(y.data(), b.data(), size, 1.7e-9, {0, size});
    check(x == y && a == b, "folded sums", size);
  }
}

bool near(float a, float b, float size) { return std::fabs(a - b) <= 1e-5f * (size + 1); }

void reals(const Set& set, int64_t size) {
  const auto z = floats(size), row = floats(size), h = floats(size), next = floats(size);
  const Range range = {0, size};
  const float scale = static_cast<float>(size);
  check(near(set.dot_float(z.data(), row.data(), range),
             plain_set.dot_float(z.data(), row.data(), range), scale), "float dot", size);
  for (float keep : {1.0f, 0.75f})
    for (const float* added : {h.data(), static_cast<const float*>(nullptr)}) {
      auto a = z, b = z;
      FloatUpdate u = {a.data(), row.data(), added, next.data(), nullptr, 0.3f, keep, range};
      FloatUpdate v = u;
      v.z = b.data();
      check(near(set.update_float(u), plain_set.update_float(v), scale), "float product", size);
      for (int64_t j = 0; j < size; ++j) check(near(a[j], b[j], 1), "float update", size);
    }
}

// Products with doubles, of rows that need not be whole blocks.
template <typename Row>
void products(const Products<Row>& of, const Products<Row>& plain, int64_t size) {
  Buffer<Row> rows(3 * size);
  Buffer<double> w(size), slopes(6), a(size), b(size);
  const auto some = floats(3 * size);
  for (int64_t j = 0; j < 3 * size; ++j)
    rows[j] = static_cast<Row>(sizeof(Row) == 1 ? 100 * some[j] : some[j]);
  for (int64_t j = 0; j < size; ++j) w[j] = a[j] = b[j] = some[j];
  for (int64_t i = 0; i < 6; ++i) slopes[i] = 0.1 * static_cast<double>(i + 1);
  const double limit = 1e-13 * static_cast<double>(size);
  check(std::fabs(of.dot(w.data(), rows.data(), size) -
                  plain.dot(w.data(), rows.data(), size)) < 100 * limit, "wide dot", size);
  of.add_rows(a.data(), rows.data(), size, slopes.data(), 2, 3, size);
  plain.add_rows(b.data(), rows.data(), size, slopes.data(), 2, 3, size);
  for (int64_t j = 0; j < size; ++j)
    check(std::fabs(a[j] - b[j]) < 1e-12, "wide rows", size);
}

// Whole calls, of one and of several threads, with losses and odd numbers of steps.
template <typename Code>
void calls(const Set& set, int64_t stride) {
  const int64_t samples = 5, count = 37;
  const auto rows = numbers<Code>(samples * stride, sizeof(Code) == 1 ? -127 : -32767,
                                  sizeof(Code) == 1 ? 127 : 32767);
  Buffer<int32_t> index(count);
  for (auto& i : index) i = static_cast<int32_t>(source() % samples);
  for (Loss loss : {Loss::kSquared, Loss::kLogistic, Loss::kSoftmax}) {
    const int64_t outputs = loss == Loss::kSoftmax ? 3 : 1;
    Buffer<float> p(samples * outputs, 1.0f / static_cast<float>(outputs + 1));
    p[0] = 0;
    const auto h = numbers<int16_t>(outputs * stride, -500, 500);
    const auto start = numbers<uint64_t>(outputs * ((stride + kChunk - 1) / kChunk) * kLanes, 1,
                                         INT64_MAX);
    Buffer<Code> first;
    for (int threads = 1; threads < 4; ++threads) {
      Buffer<Code> z(outputs * stride, 0);
      auto noise = start;
      Halp<Code> call = {};
      call.samples = {samples, stride, outputs, index.data(), count, loss,
                      loss == Loss::kSquared ? nullptr : p.data(), threads};
      call.rows = rows.data();
      call.z = z.data();
      call.h = h.data();
      call.noise = noise.data();
      call.unit = 1e-6;
      call.gain = 1e-2;
      call.decay = 0.01;
      call.shift = 9;
      run(set, call);
      if (threads == 1) first = z;
      check(z == first, "threads", stride);
    }
  }
}

void passes(const Set& set, int64_t stride) {
  for (int64_t size : {1, 7, 300}) {
    const auto rows = numbers<int8_t>(size * stride, -127, 127);
    const auto z = numbers<int8_t>(stride, -128, 127);
    Buffer<double> y(size, 0.5), a(size, 0.25), sum(stride), other(stride);
    Buffer<float> p(size);
    y.back() = size == 7 ? NAN : 0.5;
    for (double* to : {sum.data(), other.data()}) {
      auto at = a;
      CodedPass call = {rows.data(), z.data(), y.data(), size, stride, 1, Loss::kSquared,
                        1e-4, 1.0, at.data(), to, p.data(), 2};
      pass(to == sum.data() ? set : plain_set, call);
    }
    for (int64_t j = 0; j < stride; ++j) {
      const bool wrong = std::isnan(sum[j]) != (size == 7);
      check(!wrong && (size == 7 || sum[j] == other[j]), "pass", stride);
    }
  }
}

}  // namespace

int main() {
  const Set* sets[] = {
#ifdef LPML_SOFTWARE_AVX512
      &avx512_set,
#else
      &plain_set,
#ifdef __x86_64__
      &avx2_set, &avx512_set,
#endif
#endif
  };
  for (const Set* set : sets) {
#ifndef LPML_SOFTWARE_AVX512
    if (!set->supported()) continue;
#endif
    for (int64_t size : {64, 128, 192, 960, 1024, 1088, 2112}) {
      integers<int8_t>(*set, size);
      integers<int16_t>(*set, size);
      sums(*set, size);
      reals(*set, size);
      for (int64_t odd : {size, size - 3, size - 20}) {
        products(set->of_codes, plain_set.of_codes, odd);
        products(set->of_floats, plain_set.of_floats, odd);
        products(set->of_doubles, plain_set.of_doubles, odd);
      }
      calls<int8_t>(*set, size);
      calls<int16_t>(*set, size);
      passes(*set, size);
    }
    integers<int16_t>(*set, 1056);
    reals(*set, 1040);
    std::printf("%s compared\n", set->name);
  }
  return failures != 0;
}
