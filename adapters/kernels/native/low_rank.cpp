// Low-rank maps of segments: y += B (A x) + b, with each segment's own A, B and b, for one block of rows after the
// other.
#include "inner.h"
#include "segments.h"

namespace chorus {
namespace {

template <class T>
struct Call {
    int64_t storage, threads;
    const T* x;
    T* y;
    int64_t x_stride, y_stride, rows, in, out;
    Segments segments;
    const T* arena;
    int64_t elements;                 // of the arena
    const int64_t *down, *up, *bias;  // [segments]; bias may be null
    int64_t rank;
};

template <class T>
void one_block(const Call<T>& call, const Block& block) {
    const T* const down = call.arena + call.down[block.segment];
    const T* const z = downwards(call.x + block.first * call.x_stride, call.x_stride, block.rows, call.in, down,
                                 call.rank, [](Floats x, long, auto) { return x; }, [] {});
    const T* const right = packed_up(call.arena + call.up[block.segment], call.out, call.rank);
    const T* const bias = call.bias == nullptr ? nullptr : call.arena + call.bias[block.segment];
    float* const sums = scratch<Use::sums, float>(TILE * call.out);
    for (long row = 0; row < block.rows; ++row) {
        if (row % TILE == 0) upwards(z + row * depth(call.rank, z), right, call.out, call.rank, sums);
        T* const to = call.y + (block.first + row) * call.y_stride;
        const float* const own = sums + row % TILE * call.out;
        sweep(call.out, [&](long place, auto lanes) {
            Floats x = load(to + place, lanes) + load(own + place, lanes);
            if (bias != nullptr) x += load(bias + place, lanes);
            store(to + place, x, lanes);
        });
    }
}

template <class T>
void run(const Call<T>& call) {
    const auto blocks = blocks_of(call.segments, call.rows);
    check_offsets(call.down, call.segments.count, call.rank * call.in, call.elements);
    check_offsets(call.up, call.segments.count, call.out * call.rank, call.elements);
    check_offsets(call.bias, call.segments.count, call.out, call.elements);
    each_task(blocks.size(), call.threads, [&](long task) { one_block(call, blocks[task]); });
}

}  // namespace
}  // namespace chorus

extern "C" int chorus_low_rank(const void* call) {
    return chorus::answered(call,
                            [&](auto element) { run(*static_cast<const chorus::Call<decltype(element)>*>(call)); });
}
