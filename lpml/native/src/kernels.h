// What the loops of one instruction set have to offer, and what they all agree on.
//
// Everything here works on a range of coordinates [begin, end) of one output's vector; both
// ends are multiples of kBlock bytes, and begin is a multiple of kChunk coordinates, so that
// two threads may share a vector out between them. All integer results are the same, bit for
// bit, whichever set computes them. The arithmetic is written down in docs/NATIVE.md.
#pragma once
#include <cstddef>
#include <cstdint>

namespace lpml {

// Rows are padded with zeros to whole blocks; a block of 64 bytes of codes has its noise from
// one update of its chunk's generator.
constexpr int64_t kBlock = 64;
// Coordinates that share a generator: eight lanes of 64 bits.
constexpr int64_t kChunk = 1024;
constexpr int kLanes = 8;
// Two 8-bit codes share a word of 16 random bits, of which one takes the upper end and the other
// the lower end of the word's product with this number: of F bits each, which have more than
// 16 bits in common, the outcomes of chances from 1/256 to 255/256 are uncorrelated to 0.01
// (without the product: 0.25).
constexpr uint16_t kStir = 0xBCC7;
// Fraction bits of an 8-bit update: what 16-bit words leave beside the codes.
constexpr int kLeastFraction = 8;
constexpr int kMostFraction = 14;
constexpr int kFractions = kMostFraction - kLeastFraction + 1;

struct Range {
  int64_t begin;
  int64_t end;
};

// Codes that an update clipped, and the largest magnitude it left.
struct Tally {
  int64_t saturated = 0;
  int32_t peak = 0;
};

// z <- clip(z - (round(x C / 2^7) + h + noise) >> F), and the sum of the new z times `next`.
// `ahead` is the row to be fetched meanwhile, or null.
template <typename Code>
struct Update {
  Code* z;
  const Code* row;
  const int16_t* h;  // 8 bits: in the order of `interleave`
  const Code* next;
  const Code* ahead;
  uint64_t* noise;  // the vector's generators, kLanes words for every chunk
  int32_t coefficient;
  int32_t second;  // 16 bits: 2^K, the weight of h
  Range range;
  Tally* tally;  // only for the counting kinds
};

// z <- clip(z - (z D + noise) >> F), and the sum of the new z times `next`.
template <typename Code>
struct Decay {
  Code* z;
  const Code* next;
  uint64_t* noise;
  int32_t factor;
  Range range;
};

// z <- keep z - h - c x, and the sum of the new z times `next`; h null: no such term.
struct FloatUpdate {
  float* z;
  const float* row;
  const float* h;
  const float* next;
  const float* ahead;
  float coefficient;
  float keep;
  Range range;
};

template <typename Code>
using Dot = int64_t (*)(const Code* z, const Code* row, Range range);
template <typename Code>
using UpdateFn = int64_t (*)(const Update<Code>&);
template <typename Code>
using DecayFn = int64_t (*)(const Decay<Code>&);

// Derivatives of a group of rows as whole numbers of 45 bits in three limbs of 15: sums of their
// products with codes are exact in 32 bits for kMostRows rows, and so the same in any order.
constexpr int kLimbs = 3;
constexpr int kLimbBits = 15;
constexpr int64_t kMostRows = 256;
struct Limbs {
  int16_t pair[kLimbs][2];  // of two rows, side by side
};

// sums[limb * stride + j] += limb of row i * row_i[j], over `count` rows.
using AddRows8 = void (*)(int32_t* sums, const int8_t* rows, int64_t stride, const Limbs* limbs,
                          int64_t count, Range range);
// total[j] += factor * (the sums of the limbs as one number), and the sums become 0.
using Fold8 = void (*)(double* total, int32_t* sums, int64_t stride, double factor, Range range);

// Products of rows with doubles, all sums in double precision. `size` may be any number.
template <typename Row>
struct Products {
  double (*dot)(const double* w, const Row* row, int64_t size);
  // sum[j] += slopes[i * outputs] row_i[j], over `count` rows.
  void (*add_rows)(double* sum, const Row* rows, int64_t stride, const double* slopes,
                   int64_t outputs, int64_t count, int64_t size);
};

struct Set {
  const char* name;
  bool (*supported)();
  Dot<int8_t> dot8;
  UpdateFn<int8_t> update8[kFractions][2];  // [F - kLeastFraction][counting]
  DecayFn<int8_t> decay8[kFractions];
  Dot<int16_t> dot16;
  UpdateFn<int16_t> update16[2];
  DecayFn<int16_t> decay16;
  float (*dot_float)(const float* z, const float* row, Range range);
  float (*update_float)(const FloatUpdate&);
  AddRows8 add_rows8;
  Fold8 fold8;
  Products<int8_t> of_codes;
  Products<float> of_floats;
  Products<double> of_doubles;
};

// The widest last; `sets[0]` runs everywhere.
extern const Set plain_set;
#if defined(__x86_64__)
extern const Set avx2_set;
extern const Set avx512_set;
#endif

// Rows taken together in a pass over the data, so that a sum is read and written once for all.
constexpr int64_t kRows = 16;

// h of 8-bit codes in the order in which unpacking leaves the coordinates of a block: those
// with bit 3 clear, then those with bit 3 set.
inline void interleave(const int16_t* from, int16_t* to, int64_t size) {
  for (int64_t block = 0; block < size; block += 64)
    for (int64_t j = 0; j < 64; ++j)
      to[block + ((j & 8) << 2) + ((j >> 4) << 3) + (j & 7)] = from[block + j];
}

}  // namespace lpml
