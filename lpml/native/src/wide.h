// The loops once more, on vectors of kWidth bytes. Included by one file per instruction set,
// which first defines the operations on its registers: `Ints`, `Floats` and the functions on
// them below, all in an unnamed namespace.
#pragma once
#include "kernels.h"

namespace lpml {
namespace {

constexpr int kParts = kBlock / kWidth;  // vectors of a block

// The chunk's generators in registers.
struct Noise {
  Ints lanes[kParts];
  explicit Noise(const uint64_t* from) {
    for (int i = 0; i < kParts; ++i) lanes[i] = load(from + i * kWidth / 8);
  }
  void save(uint64_t* to) const {
    for (int i = 0; i < kParts; ++i) store(to + i * kWidth / 8, lanes[i]);
  }
  Ints draw(int i) {
    Ints s = lanes[i];
    s = bit_xor(s, shift_left64<13>(s));
    s = bit_xor(s, shift_right64<7>(s));
    s = bit_xor(s, shift_left64<17>(s));
    return lanes[i] = s;
  }
};

template <typename Code, typename Body>
inline __attribute__((always_inline)) void each_part(uint64_t* noise, Range range, Body body) {
  constexpr int64_t size = kBlock / sizeof(Code);
  constexpr int64_t part = kWidth / sizeof(Code);
  for (int64_t chunk = range.begin; chunk < range.end; chunk += kChunk) {
    Noise lanes(noise + chunk / kChunk * kLanes);
    const int64_t stop = chunk + kChunk < range.end ? chunk + kChunk : range.end;
    for (int64_t j = chunk; j < stop; j += size)
#pragma GCC unroll 2
      for (int i = 0; i < kParts; ++i) body(j + i * part, i, lanes.draw(i));
    lanes.save(noise + chunk / kChunk * kLanes);
  }
}

// The F-bit noise of the two halves that unpacking makes of a vector of bytes.
template <int F>
inline Ints low_noise(Ints words) {
  return bit_and(low_product(words, fill16(kStir)), fill16((1 << F) - 1));
}
template <int F>
inline Ints high_noise(Ints words) {
  return shift_right16_zeros<16 - F>(words);
}

template <int F>
inline Ints rounded8(Ints low, Ints high, Ints words) {
  low = add16_clipped(low, low_noise<F>(words));
  high = add16_clipped(high, high_noise<F>(words));
  return pack16(shift_right16<F>(low), shift_right16<F>(high));
}

template <int F, bool Counting>
int64_t update8(const Update<int8_t>& u) {
  const Ints coefficient = fill16(u.coefficient);
  Sum8 sum;
  Counts8 counts;
  // copies, since a store of bytes could change `u` for all that the compiler knows
  int8_t* const codes = u.z;
  const int8_t *const rows = u.row, *const next = u.next;
  const int8_t* const ahead = u.ahead ? u.ahead : u.row;
  const int16_t* const added = u.h;
  each_part<int8_t>(u.noise, u.range, [=, &sum, &counts](int64_t j, int i, Ints words) {
    if (i == 0) prefetch(ahead + j);
    const Ints row = load(rows + j);
    const int16_t* h = added + (j - i * kWidth) + i * kWidth / 2;
    const Ints low = add16_clipped(round_product(low_bytes(row), coefficient), load(h));
    const Ints high = add16_clipped(round_product(high_bytes(row), coefficient), load(h + 32));
    const Ints z = load(codes + j), move = rounded8<F>(low, high, words);
    const Ints kept = subtract8_clipped(z, move);
    if (Counting) counts.add(subtract8(z, move), kept);
    store(codes + j, kept);
    sum.add(kept, load(next + j));
  });
  if (Counting) counts.give(u.tally);
  return sum.total();
}

template <int F>
int64_t decay8(const Decay<int8_t>& u) {
  const Ints factor = fill16(u.factor);
  Sum8 sum;
  each_part<int8_t>(u.noise, u.range, [&](int64_t j, int, Ints words) {
    const Ints z = load(u.z + j);
    const Ints low = round_product(low_bytes(z), factor);
    const Ints high = round_product(high_bytes(z), factor);
    const Ints kept = subtract8_clipped(z, rounded8<F>(low, high, words));
    store(u.z + j, kept);
    sum.add(kept, load(u.next + j));
  });
  return sum.total();
}

int64_t dot8(const int8_t* z, const int8_t* row, Range range) {
  Sum8 sum;
  for (int64_t j = range.begin; j < range.end; j += kWidth) sum.add(load(z + j), load(row + j));
  return sum.total();
}

inline Ints rounded16(Ints low, Ints high, Ints words) {
  low = add32(low, bit_and(words, fill32(0xFFFF)));
  high = add32(high, shift_right32_zeros<16>(words));
  return pack32(shift_right32<16>(low), shift_right32<16>(high));
}

template <bool Counting>
int64_t update16(const Update<int16_t>& u) {
  const Ints weights = fill32((u.coefficient & 0xFFFF) | (u.second << 16));
  Sum16 sum;
  Counts16 counts;
  int16_t* const codes = u.z;
  const int16_t *const rows = u.row, *const next = u.next, *const added = u.h;
  const int16_t* const ahead = u.ahead ? u.ahead : u.row;
  each_part<int16_t>(u.noise, u.range, [=, &sum, &counts](int64_t j, int i, Ints words) {
    if (i == 0) prefetch(ahead + j);
    const Ints row = load(rows + j), h = load(added + j);
    const Ints low = multiply_add(low_words(row, h), weights);
    const Ints high = multiply_add(high_words(row, h), weights);
    const Ints z = load(codes + j), move = rounded16(low, high, words);
    const Ints kept = subtract16_clipped(z, move);
    if (Counting) counts.add(subtract16(z, move), kept);
    store(codes + j, kept);
    sum.add(kept, load(next + j));
  });
  if (Counting) counts.give(u.tally);
  return sum.total();
}

int64_t decay16(const Decay<int16_t>& u) {
  const Ints factor = fill32(u.factor & 0xFFFF);
  Sum16 sum;
  each_part<int16_t>(u.noise, u.range, [&](int64_t j, int, Ints words) {
    const Ints z = load(u.z + j), zero = fill32(0);
    const Ints low = multiply_add(low_words(z, zero), factor);
    const Ints high = multiply_add(high_words(z, zero), factor);
    const Ints kept = subtract16_clipped(z, rounded16(low, high, words));
    store(u.z + j, kept);
    sum.add(kept, load(u.next + j));
  });
  return sum.total();
}

int64_t dot16(const int16_t* z, const int16_t* row, Range range) {
  Sum16 sum;
  for (int64_t j = range.begin; j < range.end; j += kWidth / 2)
    sum.add(load(z + j), load(row + j));
  return sum.total();
}

// Rows and sums of several vectors at a time, so that additions need not wait for each other.
constexpr int kFloats = kWidth / 4;
constexpr int kSums = 4;

float dot_float(const float* z, const float* row, Range range) {
  Floats sums[kSums] = {zeros(), zeros(), zeros(), zeros()};
  int64_t j = range.begin;
  for (; j + kSums * kFloats <= range.end; j += kSums * kFloats)
    for (int i = 0; i < kSums; ++i)
      sums[i] = fused_add(load(z + j + i * kFloats), load(row + j + i * kFloats), sums[i]);
  for (; j < range.end; j += kFloats) sums[0] = fused_add(load(z + j), load(row + j), sums[0]);
  return total(add(add(sums[0], sums[1]), add(sums[2], sums[3])));
}

template <bool Keep, bool Shift>
float moved(const FloatUpdate& u) {
  const Floats c = fill(u.coefficient), keep = fill(u.keep);
  Floats sums[kSums] = {zeros(), zeros(), zeros(), zeros()};
  float* const offset = u.z;
  const float *const row = u.row, *const next = u.next, *const h = u.h;
  const float* const ahead = u.ahead ? u.ahead : u.row;
  const auto one = [=](int64_t j, Floats sum) __attribute__((always_inline)) {
    Floats z = load(offset + j);
    if (Keep && Shift) z = fused_subtract(z, keep, load(h + j));
    if (Keep && !Shift) z = multiply(z, keep);
    if (!Keep && Shift) z = subtract(z, load(h + j));
    z = fused_minus(c, load(row + j), z);
    store(offset + j, z);
    return fused_add(z, load(next + j), sum);
  };
  const int64_t end = u.range.end;
  int64_t j = u.range.begin;
  for (; j + kSums * kFloats <= end; j += kSums * kFloats) {
    for (int i = 0; i < kSums * kFloats; i += 16) prefetch(ahead + j + i);
#pragma GCC unroll 4
    for (int i = 0; i < kSums; ++i) sums[i] = one(j + i * kFloats, sums[i]);
  }
  for (; j < end; j += kFloats) sums[0] = one(j, sums[0]);
  return total(add(add(sums[0], sums[1]), add(sums[2], sums[3])));
}

float update_float(const FloatUpdate& u) {
  if (u.keep == 1.0f) return u.h ? moved<false, true>(u) : moved<false, false>(u);
  return u.h ? moved<true, true>(u) : moved<true, false>(u);
}

// Coordinates whose 32-bit sums fill a vector; two vectors of each limb stay in registers.
constexpr int64_t kSums32 = kWidth / 4;

void add_rows8(int32_t* sums, const int8_t* rows, int64_t stride, const Limbs* limbs,
               int64_t count, Range range) {
  for (int64_t j = range.begin; j < range.end; j += 2 * kSums32) {
    Ints acc[kLimbs][2];
    for (int limb = 0; limb < kLimbs; ++limb)
      for (int half = 0; half < 2; ++half)
        acc[limb][half] = load(sums + limb * stride + j + half * kSums32);
    for (int64_t i = 0; i < count; i += 2) {
      const int8_t* first = rows + i * stride + j;
      // an odd row out is paired with itself, at weight 0
      const int8_t* second = i + 1 < count ? first + stride : first;
      const Ints low = paired(first, second);
      const Ints high = paired(first + kSums32, second + kSums32);
      for (int limb = 0; limb < kLimbs; ++limb) {
        int32_t both;
        __builtin_memcpy(&both, limbs[i / 2].pair[limb], sizeof both);
        const Ints weights = fill32(both);
        acc[limb][0] = add32(acc[limb][0], multiply_add(low, weights));
        acc[limb][1] = add32(acc[limb][1], multiply_add(high, weights));
      }
    }
    for (int limb = 0; limb < kLimbs; ++limb)
      for (int half = 0; half < 2; ++half)
        store(sums + limb * stride + j + half * kSums32, acc[limb][half]);
  }
}

void fold8(double* total, int32_t* sums, int64_t stride, double factor, Range range) {
  const Doubles base = fill_doubles(1 << kLimbBits), scale = fill_doubles(factor);
  for (int64_t j = range.begin; j < range.end; j += kDoubles) {
    Doubles value = widened(sums + j);
    for (int limb = 1; limb < kLimbs; ++limb)
      value = add(multiply(value, base), widened(sums + limb * stride + j));
    store(total + j, add(load(total + j), multiply(scale, value)));
  }
  for (int limb = 0; limb < kLimbs; ++limb)
    for (int64_t j = range.begin; j < range.end; j += kSums32)
      store(sums + limb * stride + j, fill32(0));
}

template <typename Row>
double dot_wide(const double* w, const Row* row, int64_t size) {
  Doubles sums[kSums];
  for (Doubles& sum : sums) sum = fill_doubles(0);
  int64_t j = 0;
  for (; j + kSums * kDoubles <= size; j += kSums * kDoubles)
    for (int i = 0; i < kSums; ++i)
      sums[i] = fused_add(load(w + j + i * kDoubles), widened(row + j + i * kDoubles), sums[i]);
  for (; j + kDoubles <= size; j += kDoubles)
    sums[0] = fused_add(load(w + j), widened(row + j), sums[0]);
  alignas(64) double parts[kDoubles];
  store(parts, add(add(sums[0], sums[1]), add(sums[2], sums[3])));
  double sum = 0;
  for (double part : parts) sum += part;
  for (; j < size; ++j) sum += w[j] * static_cast<double>(row[j]);
  return sum;
}

template <typename Row>
void add_rows_wide(double* sum, const Row* rows, int64_t stride, const double* slopes,
                   int64_t outputs, int64_t count, int64_t size) {
  int64_t j = 0;
  for (; j + kSums * kDoubles <= size; j += kSums * kDoubles) {
    Doubles sums[kSums];
    for (int k = 0; k < kSums; ++k) sums[k] = load(sum + j + k * kDoubles);
    for (int64_t i = 0; i < count; ++i) {
      const Doubles slope = fill_doubles(slopes[i * outputs]);
      const Row* row = rows + i * stride + j;
      for (int k = 0; k < kSums; ++k)
        sums[k] = fused_add(slope, widened(row + k * kDoubles), sums[k]);
    }
    for (int k = 0; k < kSums; ++k) store(sum + j + k * kDoubles, sums[k]);
  }
  for (; j < size; ++j)
    for (int64_t i = 0; i < count; ++i)
      sum[j] += slopes[i * outputs] * static_cast<double>(rows[i * stride + j]);
}

#define LPML_EIGHT(F) {update8<F, false>, update8<F, true>}
#define LPML_SET(variable, name, supported)                                                  \
  const Set variable = {                                                                     \
      name,                                                                                  \
      supported,                                                                             \
      dot8,                                                                                  \
      {LPML_EIGHT(8), LPML_EIGHT(9), LPML_EIGHT(10), LPML_EIGHT(11), LPML_EIGHT(12),         \
       LPML_EIGHT(13), LPML_EIGHT(14)},                                                      \
      {decay8<8>, decay8<9>, decay8<10>, decay8<11>, decay8<12>, decay8<13>, decay8<14>},    \
      dot16,                                                                                 \
      {update16<false>, update16<true>},                                                     \
      decay16,                                                                               \
      dot_float,                                                                             \
      update_float,                                                                          \
      add_rows8,                                                                             \
      fold8,                                                                                 \
      {dot_wide<int8_t>, add_rows_wide<int8_t>},                                             \
      {dot_wide<float>, add_rows_wide<float>},                                               \
      {dot_wide<double>, add_rows_wide<double>},                                             \
  }

}  // namespace
}  // namespace lpml
