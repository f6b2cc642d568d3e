// Working memory of a thread: one buffer per purpose, which grows to the largest that was asked for, and stays.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>

namespace chorus {

enum class Use {
    norm_weight,
    norm_bias,
    rows,
    columns,
    weights,
    inner,
    outer,
    sums,
    keys,
    values,
    queries,
    scores,
    shares,
    states
};

struct Buffer {
    void* start = nullptr;
    std::size_t bytes = 0;
    ~Buffer() { std::free(start); }
};

// `count` elements at a multiple of 64 bytes, with no particular values; valid until the same use is asked for again.
template <Use purpose, class T>
T* scratch(long count) {
    static thread_local Buffer buffer;
    const std::size_t needed = (static_cast<std::size_t>(count) * sizeof(T) + 63) / 64 * 64;
    if (needed > buffer.bytes) {
        std::free(buffer.start);
        buffer.bytes = 0;
        buffer.start = std::aligned_alloc(64, needed);
        if (buffer.start == nullptr) throw std::bad_alloc();
        buffer.bytes = needed;
    }
    return static_cast<T*>(buffer.start);
}

}  // namespace chorus
