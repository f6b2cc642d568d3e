// Linear maps of segments: y = W x + b, or y += W x + b, with each segment's own W and b.
//
// The product is W xᵀ: W is read as it lies in the arena, and only x is packed, once for all of its outputs.
#include "pack.h"
#include "scratch.h"
#include "segments.h"

namespace chorus {
namespace {

constexpr long PRODUCTS = 128;  // of one product

template <class T>
struct Call {
    int64_t storage, threads;
    const T* x;
    T* y;
    int64_t x_stride, y_stride, rows, in, out;
    Segments segments;
    const T* arena;
    int64_t elements;              // of the arena
    const int64_t *weight, *bias;  // [segments]; bias may be null
    int64_t accumulate;
};

template <class T>
void one_block(const Call<T>& call, const Block& block) {
    const long padded = up_to(block.rows, TILE), deep = depth(call.in, call.x);
    T* const right = scratch<Use::columns, T>(deep * BLOCK);
    pack_transposed(call.x + block.first * call.x_stride, call.x_stride, block.rows, call.in, right, padded);
    float* const columns = scratch<Use::sums, float>(PRODUCTS * BLOCK);
    for (long first = 0; first < call.out; first += PRODUCTS) {
        const long outputs = std::min(PRODUCTS, call.out - first);
        const T* const weight = left(call.arena + call.weight[block.segment] + first * call.in, outputs, call.in);
        multiply(outputs, padded, deep, weight, deep, right, padded, columns, padded);
        const T* const bias = call.bias == nullptr ? nullptr : call.arena + call.bias[block.segment] + first;
        unpack_transposed(columns, padded, block.rows, outputs, [&](Floats sums, long row, long place, auto lanes) {
            T* const to = call.y + (block.first + row) * call.y_stride + first + place;
            if (bias != nullptr) sums += load(bias + place, lanes);
            if (call.accumulate) sums += load(to, lanes);
            store(to, sums, lanes);
        });
    }
}

template <class T>
void run(const Call<T>& call) {
    const auto blocks = blocks_of(call.segments, call.rows);
    check_offsets(call.weight, call.segments.count, call.out * call.in, call.elements);
    check_offsets(call.bias, call.segments.count, call.out, call.elements);
    each_task(blocks.size(), call.threads, [&](long task) { one_block(call, blocks[task]); });
}

}  // namespace
}  // namespace chorus

extern "C" int chorus_linear(const void* call) {
    return chorus::answered(call,
                            [&](auto element) { run(*static_cast<const chorus::Call<decltype(element)>*>(call)); });
}
