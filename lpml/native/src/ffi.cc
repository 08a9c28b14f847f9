// XLA's side: buffers checked, then handed to the loops. Every refusal is an error of the call,
// with one sentence that says what does not fit.
#include <cstring>
#include <string>

#include "loops.h"
#include "xla/ffi/api/ffi.h"

namespace lpml {
namespace {

namespace ffi = xla::ffi;
using ffi::AnyBuffer;
using ffi::DataType;
using ffi::Error;

constexpr int64_t kMostEntries = int64_t{1} << 19;  // sums of products are 32 bits wide
constexpr int kMostThreads = 64;

Error refused(const std::string& why) {
  return Error(ffi::ErrorCode::kInvalidArgument, "lpml.native: " + why);
}

const Set* sets[] = {
#if defined(__x86_64__)
    &avx512_set, &avx2_set,
#endif
    &plain_set};

// The set of that name, or the widest that this processor runs; null and a reason otherwise.
const Set* chosen(std::string_view name, std::string* why) {
  for (const Set* set : sets)
    if (name == set->name || (name == "auto" && set->supported())) {
      if (set->supported()) return set;
      *why = "this processor does not run instruction set " + std::string(name);
      return nullptr;
    }
  *why = "instruction set " + std::string(name) + " does not exist";
  return nullptr;
}

// "int8 (3, 64)"; types that no operand has are called by XLA's number.
template <typename Dims>
std::string described(DataType type, const Dims& dims) {
  std::string text;
  switch (type) {
    case DataType::S8: text = "int8"; break;
    case DataType::S16: text = "int16"; break;
    case DataType::S32: text = "int32"; break;
    case DataType::U32: text = "uint32"; break;
    case DataType::F32: text = "float32"; break;
    case DataType::F64: text = "float64"; break;
    default: text = "type " + std::to_string(static_cast<int>(type));
  }
  text += " (";
  bool first = true;
  for (int64_t d : dims) {
    text += (first ? "" : ", ") + std::to_string(d);
    first = false;
  }
  return text + ")";
}

// Collects the first thing that is wrong.
class Check {
 public:
  void that(bool holds, const std::string& otherwise) {
    if (!holds && why_.empty()) why_ = otherwise;
  }
  void buffer(const char* name, const AnyBuffer& b, DataType type,
              std::initializer_list<int64_t> dims) {
    const auto has = b.dimensions();
    bool same = b.element_type() == type && has.size() == dims.size();
    if (same) {
      size_t i = 0;
      for (int64_t d : dims) same = same && has[i++] == d;
    }
    that(same, std::string(name) + " is " + described(b.element_type(), has) + ", not " +
                   described(type, dims));
  }
  void samples(const Samples& s, int64_t bytes) {
    that(s.size >= 1, "there are no samples");
    that(s.outputs >= 1, "there are no outputs");
    that(s.stride >= 1 && s.stride * bytes % kBlock == 0,
         "rows of " + std::to_string(s.stride) + " entries are not padded to whole blocks");
    that(s.stride <= kMostEntries,
         "rows of " + std::to_string(s.stride) + " entries are too long for sums of 32 bits");
    that(s.threads >= 1 && s.threads <= kMostThreads,
         "threads = " + std::to_string(s.threads) + " must be 1 to 64");
  }
  void outputs(Loss loss, int64_t outputs) {
    that(loss == Loss::kSoftmax || outputs == 1, "this loss has one output");
  }
  template <typename Value>
  void label(Value y, int64_t outputs) {
    that(y >= 0 && y < static_cast<Value>(outputs), "a label is not that of a class");
  }
  void indices(const Samples& s, int64_t rows) {
    that(s.count >= 0 && s.count <= rows,
         "count = " + std::to_string(s.count) + " must be 0 to the number of indices");
    if (!why_.empty()) return;
    for (int64_t t = 0; t < s.count; ++t)
      if (s.index[t] < 0 || s.index[t] >= s.size) {
        that(false, "index " + std::to_string(s.index[t]) + " is not that of a sample");
        return;
      }
  }
  bool failed() const { return !why_.empty(); }
  const std::string& why() const { return why_; }

 private:
  std::string why_;
};

template <typename T>
T* data(const AnyBuffer& b) {
  return static_cast<T*>(b.untyped_data());
}

int64_t dim(const AnyBuffer& b, size_t i) {
  return i < b.dimensions().size() ? static_cast<int64_t>(b.dimensions()[i]) : -1;
}

// An output that did not get the input's buffer starts as its copy.
void start_from(const AnyBuffer& in, ffi::Result<AnyBuffer>& out) {
  if (in.untyped_data() != out->untyped_data())
    std::memcpy(out->untyped_data(), in.untyped_data(), in.size_bytes());
}

Samples told(const AnyBuffer& rows, const AnyBuffer& z, const AnyBuffer& index,
             const AnyBuffer& count, const AnyBuffer& at_anchor, int64_t loss, int64_t threads) {
  Samples s = {};
  s.size = dim(rows, 0);
  s.stride = dim(rows, 1);
  s.outputs = dim(z, 0);
  s.index = data<int32_t>(index);
  s.count = *data<int32_t>(count);
  s.loss = static_cast<Loss>(loss);
  s.at_anchor = s.loss == Loss::kSquared ? nullptr : data<float>(at_anchor);
  s.threads = static_cast<int>(threads);
  return s;
}

void check_common(Check& check, const AnyBuffer& index, const AnyBuffer& count,
                  const AnyBuffer& scalars, int64_t numbers, int64_t loss) {
  check.buffer("index", index, DataType::S32, {dim(index, 0)});
  check.buffer("count", count, DataType::S32, {});
  check.buffer("scalars", scalars, DataType::F32, {numbers});
  check.that(loss >= 0 && loss <= 2, "this loss does not exist");
}

// What a run's calls have seen so far, as 32-bit words: exact whatever the calls' lengths.
struct Seen {
  uint64_t saturated;
  uint64_t clipped;
  int32_t peak;
  int32_t bad_step;  // -1: none
  float steepest;
  int32_t unused;
};
constexpr int64_t kSeenWords = sizeof(Seen) / 4;

void add(const Report& report, int64_t first_step, uint32_t* words) {
  Seen seen;
  std::memcpy(&seen, words, sizeof seen);
  seen.saturated += report.saturated;
  seen.clipped += report.clipped;
  if (report.peak > seen.peak) seen.peak = report.peak;
  const float steepest = static_cast<float>(report.steepest);
  if (steepest > seen.steepest) seen.steepest = steepest;
  if (report.first_bad >= 0 && seen.bad_step < 0)
    seen.bad_step = static_cast<int32_t>(first_step + report.first_bad);
  std::memcpy(words, &seen, sizeof seen);
}

template <typename Code>
Error halp_of(const Set* set, AnyBuffer rows, AnyBuffer h, AnyBuffer index,
              AnyBuffer at_anchor, AnyBuffer seed, AnyBuffer step, AnyBuffer scalars,
              AnyBuffer shift, ffi::Result<AnyBuffer>& z, ffi::Result<AnyBuffer>& noise,
              ffi::Result<AnyBuffer>& seen, const Samples& samples, Check& check) {
  constexpr DataType type = sizeof(Code) == 1 ? DataType::S8 : DataType::S16;
  const Samples& s = samples;
  check.samples(s, sizeof(Code));
  check.buffer("rows", rows, type, {s.size, s.stride});
  check.buffer("codes", *z, type, {s.outputs, s.stride});
  check.buffer("h", h, DataType::S16, {s.outputs, s.stride});
  check.buffer("noise", *noise, DataType::U32,
               {s.outputs, (s.stride + kChunk - 1) / kChunk, 2 * kLanes});
  check.buffer("seen", *seen, DataType::U32, {kSeenWords});
  check.buffer("seed", seed, DataType::U32, {2});
  check.buffer("step", step, DataType::S32, {});
  check.buffer("shift", shift, DataType::S32, {});
  if (s.at_anchor)
    check.buffer("at_anchor", at_anchor, DataType::F32, {s.size, s.outputs});
  check.indices(s, dim(index, 0));
  if (check.failed()) return refused(check.why());
  Halp<Code> call = {};
  call.samples = s;
  call.shift = *data<int32_t>(shift);
  const int least = sizeof(Code) == 1 ? kLeastFraction : 0;
  if (call.shift < least || call.shift > kMostFraction)
    return refused("shift = " + std::to_string(call.shift) + " is out of its range");
  if (!s.count) return Error::Success();
  call.rows = data<Code>(rows);
  call.z = data<Code>(*z);
  call.h = data<int16_t>(h);
  call.noise = reinterpret_cast<uint64_t*>(data<uint32_t>(*noise));
  const uint32_t* words = data<uint32_t>(seed);
  call.seed = words[0] | static_cast<uint64_t>(words[1]) << 32;
  call.first_step = *data<int32_t>(step);
  const float* numbers = data<float>(scalars);
  call.unit = numbers[0];
  call.gain = numbers[1];
  call.decay = numbers[2];
  add(run(*set, call), call.first_step, data<uint32_t>(*seen));
  return Error::Success();
}

Error halp(AnyBuffer z_in, AnyBuffer noise_in, AnyBuffer seen_in, AnyBuffer rows, AnyBuffer h,
           AnyBuffer index, AnyBuffer count, AnyBuffer at_anchor, AnyBuffer seed,
           AnyBuffer step, AnyBuffer scalars, AnyBuffer shift, ffi::Result<AnyBuffer> z,
           ffi::Result<AnyBuffer> noise, ffi::Result<AnyBuffer> seen, int64_t loss,
           int64_t threads, std::string_view instructions) {
  std::string why;
  const Set* set = chosen(instructions, &why);
  Check check;
  check.that(set != nullptr, why);
  check_common(check, index, count, scalars, 3, loss);
  if (check.failed()) return refused(check.why());
  start_from(z_in, z);
  start_from(noise_in, noise);
  start_from(seen_in, seen);
  const Samples s = told(rows, *z, index, count, at_anchor, loss, threads);
  const bool narrow = rows.element_type() == DataType::S8;
  const auto of = narrow ? halp_of<int8_t> : halp_of<int16_t>;
  return of(set, rows, h, index, at_anchor, seed, step, scalars, shift, z, noise, seen,
            s, check);
}

// SVRG where `h` is as wide as z, SGD where it has no entries.
Error svrg(AnyBuffer z_in, AnyBuffer seen_in, AnyBuffer rows, AnyBuffer h, AnyBuffer index,
           AnyBuffer count, AnyBuffer at_anchor, AnyBuffer y, AnyBuffer step,
           AnyBuffer scalars, ffi::Result<AnyBuffer> z, ffi::Result<AnyBuffer> seen,
           int64_t loss, int64_t threads, std::string_view instructions) {
  std::string why;
  const Set* set = chosen(instructions, &why);
  Check check;
  check.that(set != nullptr, why);
  check_common(check, index, count, scalars, 2, loss);
  if (check.failed()) return refused(check.why());
  start_from(z_in, z);
  start_from(seen_in, seen);
  Samples s = told(rows, *z, index, count, at_anchor, loss, threads);
  const bool plain = h.element_count() == 0;
  if (plain) s.at_anchor = nullptr;
  check.samples(s, sizeof(float));
  check.buffer("rows", rows, DataType::F32, {s.size, s.stride});
  check.buffer("offset", *z, DataType::F32, {s.outputs, s.stride});
  check.buffer("seen", *seen, DataType::U32, {kSeenWords});
  check.buffer("step", step, DataType::S32, {});
  if (plain)
    check.buffer("y", y, DataType::F32, {s.size});
  else
    check.buffer("h", h, DataType::F32, {s.outputs, s.stride});
  if (s.at_anchor)
    check.buffer("at_anchor", at_anchor, DataType::F32, {s.size, s.outputs});
  check.indices(s, dim(index, 0));
  if (plain) check.outputs(s.loss, s.outputs);
  if (plain && s.loss == Loss::kSoftmax && !check.failed())
    for (int64_t t = 0; t < s.count; ++t)
      check.label(data<float>(y)[s.index[t]], s.outputs);
  if (check.failed()) return refused(check.why());
  if (!s.count) return Error::Success();
  Svrg call = {};
  call.samples = s;
  call.rows = data<float>(rows);
  call.z = data<float>(*z);
  call.h = plain ? nullptr : data<float>(h);
  call.y = plain ? data<float>(y) : nullptr;
  call.rate = data<float>(scalars)[0];
  call.keep = data<float>(scalars)[1];
  add(run(*set, call), *data<int32_t>(step), data<uint32_t>(*seen));
  return Error::Success();
}

template <typename Row>
double passed(const Set& set, const AnyBuffer& rows, const AnyBuffer& w, const AnyBuffer& y,
              const Samples& s, double scale, ffi::Result<AnyBuffer>& sum,
              ffi::Result<AnyBuffer>& predictions) {
  const FloatPass<Row> call = {data<Row>(rows), data<double>(w), data<double>(y),
                               s.size,          s.stride,        s.outputs,
                               s.loss,          scale,           data<double>(*sum),
                               data<float>(*predictions),        s.threads};
  return pass(set, call);
}

// The full gradient. Where `w` are codes, so are the rows, and the outputs move by w's product
// with them; otherwise `w` are the weights.
Error pass_over(AnyBuffer a_in, AnyBuffer rows, AnyBuffer w, AnyBuffer y, AnyBuffer scalars,
                ffi::Result<AnyBuffer> a, ffi::Result<AnyBuffer> sum,
                ffi::Result<AnyBuffer> predictions, ffi::Result<AnyBuffer> value, int64_t loss,
                int64_t threads, std::string_view instructions) {
  std::string why;
  const Set* set = chosen(instructions, &why);
  const bool coded = w.element_type() == DataType::S8;
  Samples s = {};
  s.size = dim(rows, 0);
  s.stride = dim(rows, 1);
  s.outputs = dim(w, 0);
  s.loss = static_cast<Loss>(loss);
  s.threads = static_cast<int>(threads);
  DataType type = rows.element_type();
  if (coded || (type != DataType::F32 && type != DataType::F64)) type = DataType::S8;
  Check check;
  check.that(set != nullptr, why);
  check.that(loss >= 0 && loss <= 2, "this loss does not exist");
  check.samples(s, coded ? 1 : kBlock);  // of weights, rows may have any length
  check.buffer("rows", rows, type, {s.size, s.stride});
  check.buffer("codes or weights", w, coded ? DataType::S8 : DataType::F64,
               {s.outputs, s.stride});
  check.buffer("y", y, DataType::F64, {s.size});
  check.buffer("scalars", scalars, DataType::F64, {2});
  check.buffer("gradient", *sum, DataType::F64, {s.outputs, s.stride});
  check.buffer("predictions", *predictions, DataType::F32, {s.size, s.outputs});
  check.buffer("loss", *value, DataType::F64, {});
  if (coded) check.buffer("outputs", *a, DataType::F64, {s.size, s.outputs});
  check.outputs(s.loss, s.outputs);
  if (loss == 2 && !check.failed())
    for (int64_t i = 0; i < s.size; ++i) check.label(data<double>(y)[i], s.outputs);
  if (check.failed()) return refused(check.why());
  const double unit = data<double>(scalars)[0], scale = data<double>(scalars)[1];
  if (coded) {
    start_from(a_in, a);
    CodedPass call = {data<int8_t>(rows), data<int8_t>(w), data<double>(y), s.size, s.stride,
                      s.outputs, s.loss, unit, scale, data<double>(*a), data<double>(*sum),
                      data<float>(*predictions), s.threads};
    *data<double>(*value) = pass(*set, call);
  } else {
    const auto of = type == DataType::S8    ? passed<int8_t>
                    : type == DataType::F32 ? passed<float>
                                            : passed<double>;
    *data<double>(*value) = of(*set, rows, w, y, s, scale, sum, predictions);
  }
  return Error::Success();
}

}  // namespace
}  // namespace lpml

#define LPML_HANDLER(name, function, ...)                                            \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(name, lpml::function, ::xla::ffi::Ffi::Bind() __VA_ARGS__ \
      .Attr<int64_t>("loss").Attr<int64_t>("threads").Attr<std::string_view>("instructions"))
#define LPML_IN .Arg<::xla::ffi::AnyBuffer>()
#define LPML_OUT .Ret<::xla::ffi::AnyBuffer>()

LPML_HANDLER(lpml_halp, halp,
             LPML_IN LPML_IN LPML_IN LPML_IN LPML_IN LPML_IN LPML_IN LPML_IN LPML_IN LPML_IN
                 LPML_IN LPML_IN LPML_OUT LPML_OUT LPML_OUT);
LPML_HANDLER(lpml_svrg, svrg,
             LPML_IN LPML_IN LPML_IN LPML_IN LPML_IN LPML_IN LPML_IN LPML_IN LPML_IN LPML_IN
                 LPML_OUT LPML_OUT);
LPML_HANDLER(lpml_pass, pass_over,
             LPML_IN LPML_IN LPML_IN LPML_IN LPML_IN LPML_OUT LPML_OUT LPML_OUT LPML_OUT);

// The widest instruction set of this processor, by name.
extern "C" const char* lpml_instructions() {
  std::string why;
  return lpml::chosen("auto", &why)->name;
}
extern "C" int lpml_runs(const char* name) {
  std::string why;
  return lpml::chosen(name, &why) != nullptr;
}
