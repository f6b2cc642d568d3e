// The norm of a sum, row by row: out = norm(f + r), or norm(f).
#include <algorithm>

#include "calls.h"
#include "norms.h"

namespace chorus {
namespace {

constexpr long ROWS = 16;  // of one task

template <class T>
struct Call {
    int64_t storage, threads;
    const T *f, *r;  // r may be null
    T* out;
    int64_t f_stride, r_stride, out_stride, rows, width;
    const float *weight, *bias;  // either may be null
    double eps;
};

template <class T>
void some_rows(const Call<T>& call, const Norm& norm, long first, long rows) {
    Moments moments[ROWS];
    const T *const f = call.f + first * call.f_stride, *const r = call.r + first * call.r_stride;
    T* const out = call.out + first * call.out_stride;
    if (call.r == nullptr) {
        const auto x = [&](long row, long place, auto lanes) { return load(f + row * call.f_stride + place, lanes); };
        normalise(rows, call.width, norm, x, out, call.out_stride, moments);
        return;
    }
    const auto x = [&](long row, long place, auto lanes) {
        return load(f + row * call.f_stride + place, lanes) + load(r + row * call.r_stride + place, lanes);
    };
    normalise(rows, call.width, norm, x, out, call.out_stride, moments);
}

template <class T>
void run(const Call<T>& call) {
    const Norm norm = norm_of(call.weight, call.bias, call.eps, call.width);
    each_task((call.rows + ROWS - 1) / ROWS, call.threads,
              [&](long task) { some_rows(call, norm, task * ROWS, std::min(ROWS, call.rows - task * ROWS)); });
}

}  // namespace
}  // namespace chorus

extern "C" int chorus_add_norm(const void* call) {
    return chorus::answered(call,
                            [&](auto element) { run(*static_cast<const chorus::Call<decltype(element)>*>(call)); });
}
