// A few threads that step together: they share a vector's coordinates out and meet after each
// pass over them, to add their parts of its products.
#pragma once
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "kernels.h"

namespace lpml {

// Coordinates of a member: whole chunks, so that each generator belongs to one thread.
inline Range share(int64_t size, int member, int members) {
  const int64_t chunks = (size + kChunk - 1) / kChunk;
  const int64_t begin = chunks * member / members * kChunk;
  const int64_t end = chunks * (member + 1) / members * kChunk;
  return {begin < size ? begin : size, end < size ? end : size};
}

// Sums of the members' parts, in the members' order.
template <typename Value>
class Meeting {
 public:
  Meeting(int members, int64_t values)
      : members_(members), slots_(members), parts_(2 * members * spaced(values)),
        values_(spaced(values)) {}

  // Puts in `values[0..count)` of this member's and takes out everybody's sum.
  void sum(int member, Value* values, int64_t count) {
    if (members_ == 1) return;
    Slot& own = slots_[member];
    const int64_t turn = own.turn + 1;
    // Two sets of parts in turn: who comes first to the next meeting must not overwrite what
    // others still read of this one.
    Value* parts = parts_.data() + (turn & 1) * members_ * values_;
    for (int64_t i = 0; i < count; ++i) parts[member * values_ + i] = values[i];
    own.turn = turn;
    own.arrived.store(turn, std::memory_order_release);
    for (int other = 0; other < members_; ++other) wait(slots_[other], turn);
    for (int64_t i = 0; i < count; ++i) {
      Value sum = 0;
      for (int other = 0; other < members_; ++other) sum += parts[other * values_ + i];
      values[i] = sum;
    }
  }

 private:
  struct alignas(128) Slot {
    std::atomic<int64_t> arrived{0};
    int64_t turn = 0;
  };
  static int64_t spaced(int64_t values) { return (values + 15) / 16 * 16; }
  static void wait(const Slot& slot, int64_t turn) {
    // a step takes microseconds; a member that lost its processor takes a time slice
    for (int spins = 0; slot.arrived.load(std::memory_order_acquire) < turn; ++spins)
      if (spins > 2000) std::this_thread::yield();
  }
  const int members_;
  std::vector<Slot> slots_;
  std::vector<Value> parts_;
  const int64_t values_;
};

// Calls `work(member)` in `members` threads, of which the caller's is the first.
template <typename Work>
void together(int members, Work work) {
  std::vector<std::thread> others;
  for (int member = 1; member < members; ++member) others.emplace_back(work, member);
  work(0);
  for (std::thread& other : others) other.join();
}

}  // namespace lpml
