// AVX-512 with byte and word operations and VNNI: compiled with those flags, called only where
// the processor has them.
#include <immintrin.h>

#include "kernels.h"

namespace lpml {
namespace {

constexpr int kWidth = 64;
constexpr int kDoubles = 8;
using Ints = __m512i;
using Floats = __m512;
using Doubles = __m512d;

template <typename T>
inline Ints load(const T* from) {
  return _mm512_loadu_si512(from);
}
inline Floats load(const float* from) { return _mm512_loadu_ps(from); }
inline Doubles load(const double* from) { return _mm512_loadu_pd(from); }
template <typename T>
inline void store(T* to, Ints v) {
  _mm512_storeu_si512(to, v);
}
inline void store(float* to, Floats v) { _mm512_storeu_ps(to, v); }
inline void store(double* to, Doubles v) { _mm512_storeu_pd(to, v); }
inline void prefetch(const void* at) {
  _mm_prefetch(static_cast<const char*>(at), _MM_HINT_T1);
}

inline Ints fill16(int v) { return _mm512_set1_epi16(static_cast<int16_t>(v)); }
inline Ints fill32(int v) { return _mm512_set1_epi32(v); }
inline Ints bit_and(Ints a, Ints b) { return _mm512_and_si512(a, b); }
inline Ints bit_xor(Ints a, Ints b) { return _mm512_xor_si512(a, b); }
template <int N>
inline Ints shift_left64(Ints a) {
  return _mm512_slli_epi64(a, N);
}
template <int N>
inline Ints shift_right64(Ints a) {
  return _mm512_srli_epi64(a, N);
}
template <int N>
inline Ints shift_right16(Ints a) {
  return _mm512_srai_epi16(a, N);
}
template <int N>
inline Ints shift_right16_zeros(Ints a) {
  return _mm512_srli_epi16(a, N);
}
template <int N>
inline Ints shift_right32(Ints a) {
  return _mm512_srai_epi32(a, N);
}
template <int N>
inline Ints shift_right32_zeros(Ints a) {
  return _mm512_srli_epi32(a, N);
}
// The lower and upper eight bytes of each 128 bits, as the high bytes of 16-bit words.
inline Ints low_bytes(Ints a) { return _mm512_unpacklo_epi8(_mm512_setzero_si512(), a); }
inline Ints high_bytes(Ints a) { return _mm512_unpackhi_epi8(_mm512_setzero_si512(), a); }
inline Ints low_words(Ints a, Ints b) { return _mm512_unpacklo_epi16(a, b); }
inline Ints high_words(Ints a, Ints b) { return _mm512_unpackhi_epi16(a, b); }
inline Ints round_product(Ints a, Ints b) { return _mm512_mulhrs_epi16(a, b); }
inline Ints low_product(Ints a, Ints b) { return _mm512_mullo_epi16(a, b); }
inline Ints multiply_add(Ints a, Ints b) { return _mm512_madd_epi16(a, b); }
inline Ints add16_clipped(Ints a, Ints b) { return _mm512_adds_epi16(a, b); }
inline Ints add32(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
inline Ints pack16(Ints a, Ints b) { return _mm512_packs_epi16(a, b); }
inline Ints pack32(Ints a, Ints b) { return _mm512_packs_epi32(a, b); }
inline Ints subtract8(Ints a, Ints b) { return _mm512_sub_epi8(a, b); }
inline Ints subtract8_clipped(Ints a, Ints b) { return _mm512_subs_epi8(a, b); }
inline Ints subtract16(Ints a, Ints b) { return _mm512_sub_epi16(a, b); }
inline Ints subtract16_clipped(Ints a, Ints b) { return _mm512_subs_epi16(a, b); }

inline int64_t total32(Ints v) {
  alignas(64) int32_t parts[16];
  _mm512_store_si512(parts, v);
  int64_t sum = 0;
  for (int i = 0; i < 16; ++i) sum += parts[i];
  return sum;
}

// A lane takes four products of at most 2^15 from 64 coordinates: 2^20 coordinates fit.
struct Sum8 {
  Ints lanes = _mm512_setzero_si512(), rows = _mm512_setzero_si512();
  void add(Ints z, Ints row) {
    // the product wants z without a sign: z + 128, and 128 times the sum of the row too much
    const Ints top = _mm512_set1_epi8(static_cast<char>(0x80));
    lanes = _mm512_dpbusd_epi32(lanes, _mm512_xor_si512(z, top), row);
    rows = _mm512_dpbusd_epi32(rows, top, row);
  }
  int64_t total() const { return total32(lanes) - total32(rows); }
};

// Sums of two products fill 32 bits, so that their halves are summed apart.
struct Sum16 {
  Ints low = _mm512_setzero_si512(), high = _mm512_setzero_si512();
  void add(Ints z, Ints row) {
    const Ints pairs = _mm512_madd_epi16(z, row);
    low = _mm512_add_epi32(low, _mm512_and_si512(pairs, fill32(0xFFFF)));
    high = _mm512_add_epi32(high, _mm512_srai_epi32(pairs, 16));
  }
  int64_t total() const { return total32(low) + total32(high) * 65536; }
};

struct Counts8 {
  int64_t clipped = 0;
  Ints largest = _mm512_setzero_si512();
  void add(Ints free, Ints kept) {
    clipped += __builtin_popcountll(_mm512_cmpneq_epi8_mask(free, kept));
    largest = _mm512_max_epu8(largest, _mm512_abs_epi8(kept));
  }
  void give(Tally* tally) const {
    alignas(64) uint8_t parts[64];
    _mm512_store_si512(parts, largest);
    for (int i = 0; i < 64; ++i)
      if (parts[i] > tally->peak) tally->peak = parts[i];
    tally->saturated += clipped;
  }
};

struct Counts16 {
  int64_t clipped = 0;
  Ints largest = _mm512_setzero_si512();
  void add(Ints free, Ints kept) {
    clipped += __builtin_popcount(_mm512_cmpneq_epi16_mask(free, kept));
    largest = _mm512_max_epu16(largest, _mm512_abs_epi16(kept));
  }
  void give(Tally* tally) const {
    alignas(64) uint16_t parts[32];
    _mm512_store_si512(parts, largest);
    for (int i = 0; i < 32; ++i)
      if (parts[i] > tally->peak) tally->peak = parts[i];
    tally->saturated += clipped;
  }
};

inline Floats fill(float v) { return _mm512_set1_ps(v); }
inline Floats zeros() { return _mm512_setzero_ps(); }
inline Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
inline Floats subtract(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
inline Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
inline Floats fused_add(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
inline Floats fused_subtract(Floats a, Floats b, Floats c) { return _mm512_fmsub_ps(a, b, c); }
// c - a b
inline Floats fused_minus(Floats a, Floats b, Floats c) { return _mm512_fnmadd_ps(a, b, c); }
inline float total(Floats v) {
  alignas(64) float parts[16];
  _mm512_store_ps(parts, v);
  for (int width = 8; width; width /= 2)
    for (int i = 0; i < width; ++i) parts[i] += parts[i + width];
  return parts[0];
}
inline Doubles fill_doubles(double v) { return _mm512_set1_pd(v); }
inline Doubles add(Doubles a, Doubles b) { return _mm512_add_pd(a, b); }
inline Doubles multiply(Doubles a, Doubles b) { return _mm512_mul_pd(a, b); }
inline Doubles fused_add(Doubles a, Doubles b, Doubles c) { return _mm512_fmadd_pd(a, b, c); }
inline Doubles widened(const double* from) { return load(from); }
inline Doubles widened(const float* from) { return _mm512_cvtps_pd(_mm256_loadu_ps(from)); }
inline Doubles widened(const int8_t* from) {
  const __m128i eight = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
  return _mm512_cvtepi32_pd(_mm256_cvtepi8_epi32(eight));
}
inline Doubles widened(const int32_t* from) {
  return _mm512_cvtepi32_pd(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}
// Sixteen entries of two rows as pairs of 16-bit words.
inline Ints paired(const int8_t* first, const int8_t* second) {
  const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(first));
  const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(second));
  const __m256i pairs = _mm256_set_m128i(_mm_unpackhi_epi8(a, b), _mm_unpacklo_epi8(a, b));
  return _mm512_cvtepi8_epi16(pairs);
}

}  // namespace
}  // namespace lpml

#include "wide.h"

namespace lpml {
namespace {
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vnni");
}
}  // namespace
LPML_SET(avx512_set, "avx512", has_avx512);
}  // namespace lpml
