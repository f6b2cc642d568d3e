// An activation in place, row by row.
#include <algorithm>

#include "calls.h"
#include "functions.h"

namespace chorus {
namespace {

constexpr long ROWS = 16;  // of one task

template <class T>
struct Call {
    int64_t storage, threads;
    T* x;
    int64_t stride, rows, width, activation;
};

template <class T>
void run(const Call<T>& call) {
    with(Activation{call.activation}, [&](auto activation) {
        each_task((call.rows + ROWS - 1) / ROWS, call.threads, [&](long task) {
            const long end = std::min<long>(call.rows, (task + 1) * ROWS);
            for (long row = task * ROWS; row < end; ++row) {
                T* const x = call.x + row * call.stride;
                sweep(call.width, [&](long place, auto lanes) {
                    store(x + place, activated<decltype(activation)::value>(load(x + place, lanes)), lanes);
                });
            }
        });
    });
}

}  // namespace
}  // namespace chorus

extern "C" int chorus_activate(const void* call) {
    return chorus::answered(call,
                            [&](auto element) { run(*static_cast<const chorus::Call<decltype(element)>*>(call)); });
}
