// The loops in plain C++: the definition that the other sets are held to, and what runs where
// they do not.
#include "kernels.h"

namespace lpml {
namespace {

// Marsaglia's xorshift (J. Stat. Software 8, 14 (2003)), eight generators side by side.
inline void draw(uint64_t* lanes) {
  for (int i = 0; i < kLanes; ++i) {
    uint64_t s = lanes[i];
    s ^= s << 13;
    s ^= s >> 7;
    s ^= s << 17;
    lanes[i] = s;
  }
}

inline int32_t clip(int32_t value, int32_t low, int32_t high) {
  return value < low ? low : value > high ? high : value;
}

inline int32_t clip8(int32_t value) { return clip(value, -128, 127); }
inline int32_t clip16(int32_t value) { return clip(value, -32768, 32767); }

// round(a b / 2^15), halves up: what mulhrs gives.
inline int32_t rounded_product(int32_t a, int32_t b) { return (a * b + (1 << 14)) >> 15; }

// Sixteen random bits of a block by place: two coordinates, eight apart, share them.
inline uint32_t word16(const uint64_t* lanes, int place) {
  return static_cast<uint32_t>(lanes[place >> 2] >> (16 * (place & 3))) & 0xFFFFu;
}

template <typename Code>
int64_t dot(const Code* z, const Code* row, Range range) {
  int64_t sum = 0;
  for (int64_t j = range.begin; j < range.end; j += 64) {
    int64_t part = 0;
    for (int64_t i = j; i < j + 64 && i < range.end; ++i)
      part += static_cast<int32_t>(z[i]) * static_cast<int32_t>(row[i]);
    sum += part;
  }
  return sum;
}

template <bool Counting>
inline void settle(int32_t wanted, int32_t kept, Tally* tally) {
  if (Counting) {
    tally->saturated += wanted != kept;
    const int32_t size = kept < 0 ? -kept : kept;
    if (size > tally->peak) tally->peak = size;
  }
}

// Calls `block(first coordinate, lanes)` on every block of the range with fresh noise.
template <typename Code, typename Body>
inline void each_block(uint64_t* noise, Range range, Body body) {
  constexpr int64_t size = kBlock / sizeof(Code);
  for (int64_t chunk = range.begin; chunk < range.end; chunk += kChunk) {
    uint64_t* lanes = noise + chunk / kChunk * kLanes;
    const int64_t stop = chunk + kChunk < range.end ? chunk + kChunk : range.end;
    for (int64_t j = chunk; j < stop; j += size) {
      draw(lanes);
      body(j, lanes);
    }
  }
}

// The F random bits of coordinate j of a block of 8-bit codes.
template <int F>
inline int32_t noise8(const uint64_t* lanes, int j) {
  const uint32_t word = word16(lanes, (j >> 4) * 8 + (j & 7));
  return static_cast<int32_t>(j & 8 ? word >> (16 - F) : word * kStir & ((1u << F) - 1));
}

// The sixteen random bits of coordinate j of a block of 16-bit codes.
inline int32_t noise16(const uint64_t* lanes, int j) {
  const int pair = (j >> 3) * 4 + (j & 3);
  return static_cast<int32_t>(word16(lanes, 2 * pair + (j & 4 ? 1 : 0)));
}

template <int F, bool Counting>
int64_t update8(const Update<int8_t>& u) {
  int64_t sum = 0;
  each_block<int8_t>(u.noise, u.range, [&](int64_t first, const uint64_t* lanes) {
    const int16_t* h = u.h + first;
    for (int j = 0; j < 64; ++j) {
      const int place = ((j & 8) << 2) + ((j >> 4) << 3) + (j & 7);
      int32_t move = rounded_product(u.row[first + j] * 256, u.coefficient);
      move = clip16(move + h[place]);
      move = clip16(move + noise8<F>(lanes, j));
      const int32_t wanted = u.z[first + j] - clip8(move >> F);
      const int32_t kept = clip8(wanted);
      settle<Counting>(wanted, kept, u.tally);
      u.z[first + j] = static_cast<int8_t>(kept);
      sum += kept * u.next[first + j];
    }
  });
  return sum;
}

template <int F>
int64_t decay8(const Decay<int8_t>& u) {
  int64_t sum = 0;
  each_block<int8_t>(u.noise, u.range, [&](int64_t first, const uint64_t* lanes) {
    for (int j = 0; j < 64; ++j) {
      int32_t move = rounded_product(u.z[first + j] * 256, u.factor);
      move = clip16(move + noise8<F>(lanes, j));
      const int32_t kept = clip8(u.z[first + j] - clip8(move >> F));
      u.z[first + j] = static_cast<int8_t>(kept);
      sum += kept * u.next[first + j];
    }
  });
  return sum;
}

template <bool Counting>
int64_t update16(const Update<int16_t>& u) {
  int64_t sum = 0;
  each_block<int16_t>(u.noise, u.range, [&](int64_t first, const uint64_t* lanes) {
    for (int j = 0; j < 32; ++j) {
      const int32_t move = u.row[first + j] * u.coefficient + u.h[first + j] * u.second +
                           noise16(lanes, j);
      const int32_t wanted = u.z[first + j] - clip16(move >> 16);
      const int32_t kept = clip16(wanted);
      settle<Counting>(wanted, kept, u.tally);
      u.z[first + j] = static_cast<int16_t>(kept);
      sum += static_cast<int64_t>(kept * static_cast<int32_t>(u.next[first + j]));
    }
  });
  return sum;
}

int64_t decay16(const Decay<int16_t>& u) {
  int64_t sum = 0;
  each_block<int16_t>(u.noise, u.range, [&](int64_t first, const uint64_t* lanes) {
    for (int j = 0; j < 32; ++j) {
      const int32_t move = u.z[first + j] * u.factor + noise16(lanes, j);
      const int32_t kept = clip16(u.z[first + j] - clip16(move >> 16));
      u.z[first + j] = static_cast<int16_t>(kept);
      sum += static_cast<int64_t>(kept * static_cast<int32_t>(u.next[first + j]));
    }
  });
  return sum;
}

// Partial sums side by side: the compiler may not reorder a sum of floats by itself.
constexpr int kSums = 16;

float total(const float* sums) {
  float sum = 0;
  for (int i = 0; i < kSums; ++i) sum += sums[i];
  return sum;
}

float dot_float(const float* z, const float* row, Range range) {
  float sums[kSums] = {};
  for (int64_t j = range.begin; j < range.end; j += kSums)
    for (int i = 0; i < kSums; ++i) sums[i] += z[j + i] * row[j + i];
  return total(sums);
}

float update_float(const FloatUpdate& u) {
  float sums[kSums] = {};
  for (int64_t j = u.range.begin; j < u.range.end; j += kSums)
    for (int i = 0; i < kSums; ++i) {
      const float kept = u.keep * u.z[j + i] - (u.h ? u.h[j + i] : 0.0f);
      const float moved = kept - u.coefficient * u.row[j + i];
      u.z[j + i] = moved;
      sums[i] += moved * u.next[j + i];
    }
  return total(sums);
}

void add_rows8(int32_t* sums, const int8_t* rows, int64_t stride, const Limbs* limbs,
               int64_t count, Range range) {
  for (int64_t i = 0; i < count; ++i)
    for (int limb = 0; limb < kLimbs; ++limb) {
      const int32_t weight = limbs[i / 2].pair[limb][i % 2];
      int32_t* sum = sums + limb * stride;
      for (int64_t j = range.begin; j < range.end; ++j) sum[j] += weight * rows[i * stride + j];
    }
}

void fold8(double* total, int32_t* sums, int64_t stride, double factor, Range range) {
  constexpr double base = 1 << kLimbBits;
  for (int64_t j = range.begin; j < range.end; ++j) {
    double value = sums[j];
    for (int limb = 1; limb < kLimbs; ++limb) value = value * base + sums[limb * stride + j];
    total[j] += factor * value;
    for (int limb = 0; limb < kLimbs; ++limb) sums[limb * stride + j] = 0;
  }
}

template <typename Row>
double dot_wide(const double* w, const Row* row, int64_t size) {
  double sums[kSums] = {};
  int64_t j = 0;
  for (; j + kSums <= size; j += kSums)
    for (int i = 0; i < kSums; ++i) sums[i] += w[j + i] * static_cast<double>(row[j + i]);
  for (; j < size; ++j) sums[0] += w[j] * static_cast<double>(row[j]);
  double sum = 0;
  for (double part : sums) sum += part;
  return sum;
}

template <typename Row>
void add_rows_wide(double* sum, const Row* rows, int64_t stride, const double* slopes,
                   int64_t outputs, int64_t count, int64_t size) {
  for (int64_t i = 0; i < count; ++i)
    for (int64_t j = 0; j < size; ++j)
      sum[j] += slopes[i * outputs] * static_cast<double>(rows[i * stride + j]);
}

bool everywhere() { return true; }

#define LPML_EIGHT(F) {update8<F, false>, update8<F, true>}

}  // namespace

const Set plain_set = {
    "plain",
    everywhere,
    dot<int8_t>,
    {LPML_EIGHT(8), LPML_EIGHT(9), LPML_EIGHT(10), LPML_EIGHT(11), LPML_EIGHT(12),
     LPML_EIGHT(13), LPML_EIGHT(14)},
    {decay8<8>, decay8<9>, decay8<10>, decay8<11>, decay8<12>, decay8<13>, decay8<14>},
    dot<int16_t>,
    {update16<false>, update16<true>},
    decay16,
    dot_float,
    update_float,
    add_rows8,
    fold8,
    {dot_wide<int8_t>, add_rows_wide<int8_t>},
    {dot_wide<float>, add_rows_wide<float>},
    {dot_wide<double>, add_rows_wide<double>},
};

}  // namespace lpml
