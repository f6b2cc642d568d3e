// Asking the memory for what the next block needs while this one is computed.
#pragma once

namespace chorus {

// Up to two ranges of equal size that are asked for piece by piece: both are on their way after so many steps.
class Ahead {
  public:
    Ahead() = default;
    Ahead(const void* range, const void* other, long bytes, long steps)
        : at_(static_cast<const char*>(range)),
          end_(at_ + bytes),
          other_(static_cast<const char*>(other)),
          bytes_(bytes) {
        const long lines = (bytes / LINE + 1) * (other == nullptr ? 1 : 2);
        per_step_ = (lines + steps - 1) / steps;
    }

    void step() {
        for (long i = 0; i < per_step_; ++i, at_ += LINE) {
            if (at_ >= end_) {
                if (other_ == nullptr) return;
                at_ = other_, end_ = other_ + bytes_, other_ = nullptr;
            }
            __builtin_prefetch(at_, 0, 2);
        }
    }

  private:
    static constexpr long LINE = 64;
    const char *at_ = nullptr, *end_ = nullptr, *other_ = nullptr;
    long bytes_ = 0, per_step_ = 0;
};

}  // namespace chorus
