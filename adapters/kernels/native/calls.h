// How a call runs its tasks in threads and answers: with a status, never with an exception.
//
// A call is one struct of numbers of 8 bytes and addresses, which begins with its storage type (0: float32, 1:
// bfloat16) and its threads; `adapters/kernels/cpu.py` writes it, field by field in the order of the struct.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <new>

#include "products.h"

namespace chorus {

// The numbers are known to `adapters/kernels/cpu.py`.
enum Status : int { fine = 0, bad_starts = 1, bad_bounds = 2, bad_offsets = 3, out_of_memory = 4, failed = 5 };

struct Refusal {
    Status status;
};

constexpr int MESSAGE = 512;
extern thread_local char message[MESSAGE];  // of the last call that failed in this thread

// run(element) with an element of the storage type that the call's first number tells; answers with a status.
template <class Run>
int answered(const void* call, Run run) noexcept {
    try {
        if (*static_cast<const int64_t*>(call) == 0)
            run(float{});
        else
            run(Bf16{});
        return fine;
    } catch (const Refusal& refusal) {
        return refusal.status;
    } catch (const std::bad_alloc&) {
        return out_of_memory;
    } catch (const std::exception& error) {
        std::snprintf(message, MESSAGE, "%s", error.what());
    } catch (...) {
        std::snprintf(message, MESSAGE, "an unknown exception");
    }
    return failed;
}

// AMX keeps its tiles until it is told that a thread is done with them.
struct Products {
    ~Products() { release(); }
};

// run(task) for every task, in `threads` threads; in this one alone where it is one. Throws what a task threw first.
template <class Run>
void each_task(long tasks, int64_t threads, Run run) {
    if (threads <= 1 || tasks <= 1) {
        const Products products;
        for (long task = 0; task < tasks; ++task) run(task);
        return;
    }
    std::exception_ptr thrown;
    std::atomic<bool> stopped{false};
#pragma omp parallel num_threads(threads)
    {
        const Products products;
#pragma omp for schedule(dynamic)
        for (long task = 0; task < tasks; ++task) {
            if (stopped.load(std::memory_order_relaxed)) continue;
            try {
                run(task);
            } catch (...) {
                if (!stopped.exchange(true)) thrown = std::current_exception();
            }
        }
    }
    if (thrown) std::rethrow_exception(thrown);
}

}  // namespace chorus
