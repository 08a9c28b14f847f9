// AVX2 with FMA: compiled with those flags, called only where the processor has them.
#include <immintrin.h>

#include "kernels.h"

namespace lpml {
namespace {

constexpr int kWidth = 32;
constexpr int kDoubles = 4;
using Ints = __m256i;
using Floats = __m256;
using Doubles = __m256d;

template <typename T>
inline Ints load(const T* from) {
  return _mm256_loadu_si256(reinterpret_cast<const Ints*>(from));
}
inline Floats load(const float* from) { return _mm256_loadu_ps(from); }
inline Doubles load(const double* from) { return _mm256_loadu_pd(from); }
template <typename T>
inline void store(T* to, Ints v) {
  _mm256_storeu_si256(reinterpret_cast<Ints*>(to), v);
}
inline void store(float* to, Floats v) { _mm256_storeu_ps(to, v); }
inline void store(double* to, Doubles v) { _mm256_storeu_pd(to, v); }
inline void prefetch(const void* at) {
  _mm_prefetch(static_cast<const char*>(at), _MM_HINT_T0);
}

inline Ints fill16(int v) { return _mm256_set1_epi16(static_cast<int16_t>(v)); }
inline Ints fill32(int v) { return _mm256_set1_epi32(v); }
inline Ints bit_and(Ints a, Ints b) { return _mm256_and_si256(a, b); }
inline Ints bit_xor(Ints a, Ints b) { return _mm256_xor_si256(a, b); }
template <int N>
inline Ints shift_left64(Ints a) {
  return _mm256_slli_epi64(a, N);
}
template <int N>
inline Ints shift_right64(Ints a) {
  return _mm256_srli_epi64(a, N);
}
template <int N>
inline Ints shift_right16(Ints a) {
  return _mm256_srai_epi16(a, N);
}
template <int N>
inline Ints shift_right16_zeros(Ints a) {
  return _mm256_srli_epi16(a, N);
}
template <int N>
inline Ints shift_right32(Ints a) {
  return _mm256_srai_epi32(a, N);
}
template <int N>
inline Ints shift_right32_zeros(Ints a) {
  return _mm256_srli_epi32(a, N);
}
// The lower and upper eight bytes of each 128 bits, as the high bytes of 16-bit words.
inline Ints low_bytes(Ints a) { return _mm256_unpacklo_epi8(_mm256_setzero_si256(), a); }
inline Ints high_bytes(Ints a) { return _mm256_unpackhi_epi8(_mm256_setzero_si256(), a); }
inline Ints low_words(Ints a, Ints b) { return _mm256_unpacklo_epi16(a, b); }
inline Ints high_words(Ints a, Ints b) { return _mm256_unpackhi_epi16(a, b); }
inline Ints round_product(Ints a, Ints b) { return _mm256_mulhrs_epi16(a, b); }
inline Ints low_product(Ints a, Ints b) { return _mm256_mullo_epi16(a, b); }
inline Ints multiply_add(Ints a, Ints b) { return _mm256_madd_epi16(a, b); }
inline Ints add16_clipped(Ints a, Ints b) { return _mm256_adds_epi16(a, b); }
inline Ints add32(Ints a, Ints b) { return _mm256_add_epi32(a, b); }
inline Ints pack16(Ints a, Ints b) { return _mm256_packs_epi16(a, b); }
inline Ints pack32(Ints a, Ints b) { return _mm256_packs_epi32(a, b); }
inline Ints subtract8(Ints a, Ints b) { return _mm256_sub_epi8(a, b); }
inline Ints subtract8_clipped(Ints a, Ints b) { return _mm256_subs_epi8(a, b); }
inline Ints subtract16(Ints a, Ints b) { return _mm256_sub_epi16(a, b); }
inline Ints subtract16_clipped(Ints a, Ints b) { return _mm256_subs_epi16(a, b); }

inline int64_t total32(Ints v) {
  alignas(32) int32_t parts[8];
  _mm256_store_si256(reinterpret_cast<Ints*>(parts), v);
  int64_t sum = 0;
  for (int i = 0; i < 8; ++i) sum += parts[i];
  return sum;
}

// A lane takes four products of at most 2^14 from 32 coordinates: 2^20 coordinates fit.
struct Sum8 {
  Ints lanes = _mm256_setzero_si256();
  void add(Ints z, Ints row) {
    // bytes of unlike signs is what there is a product of; the rows leave out -128
    const Ints pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(z), _mm256_sign_epi8(row, z));
    lanes = _mm256_add_epi32(lanes, _mm256_madd_epi16(pairs, fill16(1)));
  }
  int64_t total() const { return total32(lanes); }
};

// Sums of two products fill 32 bits, so that their halves are summed apart.
struct Sum16 {
  Ints low = _mm256_setzero_si256(), high = _mm256_setzero_si256();
  void add(Ints z, Ints row) {
    const Ints pairs = _mm256_madd_epi16(z, row);
    low = _mm256_add_epi32(low, _mm256_and_si256(pairs, fill32(0xFFFF)));
    high = _mm256_add_epi32(high, _mm256_srai_epi32(pairs, 16));
  }
  int64_t total() const { return total32(low) + total32(high) * 65536; }
};

inline int64_t count_bytes(Ints differs) {
  return __builtin_popcount(static_cast<uint32_t>(_mm256_movemask_epi8(differs)));
}

struct Counts8 {
  int64_t clipped = 0;
  Ints largest = _mm256_setzero_si256();
  void add(Ints free, Ints kept) {
    clipped += 32 - count_bytes(_mm256_cmpeq_epi8(free, kept));
    largest = _mm256_max_epu8(largest, _mm256_abs_epi8(kept));
  }
  void give(Tally* tally) const {
    alignas(32) uint8_t parts[32];
    _mm256_store_si256(reinterpret_cast<Ints*>(parts), largest);
    for (int i = 0; i < 32; ++i)
      if (parts[i] > tally->peak) tally->peak = parts[i];
    tally->saturated += clipped;
  }
};

struct Counts16 {
  int64_t clipped = 0;
  Ints largest = _mm256_setzero_si256();
  void add(Ints free, Ints kept) {
    clipped += 16 - count_bytes(_mm256_cmpeq_epi16(free, kept)) / 2;
    largest = _mm256_max_epu16(largest, _mm256_abs_epi16(kept));
  }
  void give(Tally* tally) const {
    alignas(32) uint16_t parts[16];
    _mm256_store_si256(reinterpret_cast<Ints*>(parts), largest);
    for (int i = 0; i < 16; ++i)
      if (parts[i] > tally->peak) tally->peak = parts[i];
    tally->saturated += clipped;
  }
};

inline Floats fill(float v) { return _mm256_set1_ps(v); }
inline Floats zeros() { return _mm256_setzero_ps(); }
inline Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
inline Floats subtract(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
inline Floats multiply(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
inline Floats fused_add(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
inline Floats fused_subtract(Floats a, Floats b, Floats c) { return _mm256_fmsub_ps(a, b, c); }
// c - a b
inline Floats fused_minus(Floats a, Floats b, Floats c) { return _mm256_fnmadd_ps(a, b, c); }
inline float total(Floats v) {
  __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  half = _mm_add_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}
inline Doubles fill_doubles(double v) { return _mm256_set1_pd(v); }
inline Doubles add(Doubles a, Doubles b) { return _mm256_add_pd(a, b); }
inline Doubles multiply(Doubles a, Doubles b) { return _mm256_mul_pd(a, b); }
inline Doubles fused_add(Doubles a, Doubles b, Doubles c) { return _mm256_fmadd_pd(a, b, c); }
inline Doubles widened(const double* from) { return load(from); }
inline Doubles widened(const float* from) { return _mm256_cvtps_pd(_mm_loadu_ps(from)); }
inline Doubles widened(const int8_t* from) {
  int32_t four;
  __builtin_memcpy(&four, from, sizeof four);
  return _mm256_cvtepi32_pd(_mm_cvtepi8_epi32(_mm_cvtsi32_si128(four)));
}
inline Doubles widened(const int32_t* from) {
  return _mm256_cvtepi32_pd(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}
// Eight entries of two rows as pairs of 16-bit words.
inline Ints paired(const int8_t* first, const int8_t* second) {
  const __m128i a = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(first));
  const __m128i b = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(second));
  return _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(a, b));
}

}  // namespace
}  // namespace lpml

#include "wide.h"

namespace lpml {
namespace {
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
}  // namespace
LPML_SET(avx2_set, "avx2", has_avx2);
}  // namespace lpml
