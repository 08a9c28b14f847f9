// Stands for the compiler's header: SIMDe computes the same intrinsics on any processor, and
// below are those that its packaged version lacks, by the definitions of Intel's guide.
#pragma once
#define SIMDE_NO_NATIVE
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/fma.h>

#include <cstring>

namespace shim {

template <typename Lane, typename Register>
struct Lanes {
  Lane lane[sizeof(Register) / sizeof(Lane)];
  explicit Lanes(const Register& from) { std::memcpy(lane, &from, sizeof from); }
  Lanes() {}
  Register whole() const {
    Register to;
    std::memcpy(&to, lane, sizeof to);
    return to;
  }
};

inline __m512i madd(__m512i a, __m512i b) {
  const Lanes<int16_t, __m512i> x(a), y(b);
  Lanes<int32_t, __m512i> sum;
  for (int i = 0; i < 16; ++i)
    sum.lane[i] = x.lane[2 * i] * y.lane[2 * i] + x.lane[2 * i + 1] * y.lane[2 * i + 1];
  return sum.whole();
}

inline __m512i srai32(__m512i a, int by) {
  Lanes<int32_t, __m512i> x(a);
  for (int32_t& lane : x.lane) lane >>= by;
  return x.whole();
}

template <typename Lane>
uint64_t differ(__m512i a, __m512i b) {
  const Lanes<Lane, __m512i> x(a), y(b);
  uint64_t mask = 0;
  for (size_t i = 0; i < 64 / sizeof(Lane); ++i) mask |= uint64_t(x.lane[i] != y.lane[i]) << i;
  return mask;
}

template <typename Lane, typename Register>
__m512d to_doubles(Register a) {
  const Lanes<Lane, Register> x(a);
  Lanes<double, __m512d> y;
  for (int i = 0; i < 8; ++i) y.lane[i] = x.lane[i];
  return y.whole();
}

}  // namespace shim

#undef _mm512_madd_epi16
#define _mm512_madd_epi16(a, b) shim::madd(a, b)
#define _mm512_srai_epi32(a, by) shim::srai32(a, by)
#define _mm512_cmpneq_epi8_mask(a, b) shim::differ<int8_t>(a, b)
#define _mm512_cmpneq_epi16_mask(a, b) static_cast<uint32_t>(shim::differ<int16_t>(a, b))
#define _mm512_cvtepi32_pd(a) shim::to_doubles<int32_t>(a)
#define _mm512_cvtps_pd(a) shim::to_doubles<float>(a)
