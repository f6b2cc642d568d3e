// Asking the memory for what comes next while this is computed.
#pragma once

#include <initializer_list>

namespace chorus {

struct Range {
    const void* start;
    long bytes;
};

// Some ranges, at most MOST, that are asked for piece by piece: all are on their way after so many steps.
class Ahead {
  public:
    Ahead() = default;
    Ahead(std::initializer_list<Range> ranges, long steps) {
        long lines = 0;
        for (const Range& range : ranges) {
            ranges_[count_++] = range;
            lines += range.bytes / LINE + 1;
        }
        per_step_ = (lines + steps - 1) / steps;
    }

    void step() {
        for (long i = 0; i < per_step_; ++i, at_ += LINE) {
            if (at_ >= end_) {
                if (next_ == count_) return;
                at_ = static_cast<const char*>(ranges_[next_].start), end_ = at_ + ranges_[next_].bytes, ++next_;
            }
            __builtin_prefetch(at_, 0, 2);
        }
    }

  private:
    static constexpr int LINE = 64, MOST = 3;
    Range ranges_[MOST];
    const char *at_ = nullptr, *end_ = nullptr;
    long per_step_ = 0;
    int count_ = 0, next_ = 0;
};

}  // namespace chorus
