// Bottlenecks of segments at a junction, for one block of rows after the other:
//
//   x = norm(f + r) | f | r;  u = scaling (W_u act(W_d x + b_d) + b_u);  out = u + (0 | f | x | f + r)
//   y = norm(out + r), or out
#include "ahead.h"
#include "functions.h"
#include "inner.h"
#include "norms.h"
#include "segments.h"

namespace chorus {
namespace {

// In the order of the numbers that `adapters/kernels/cpu.py` gives them.
enum class Reads : int64_t { normed, f, r };
enum class Adds : int64_t { none, f, x, sum };

template <class T>
struct Call {
    int64_t storage, threads;
    const T *f, *r;  // r may be null where nothing reads it
    T* y;
    int64_t f_stride, r_stride, y_stride, rows, hidden;
    Segments segments;
    const T* arena;
    int64_t elements;                                // of the arena
    const int64_t *down, *down_bias, *up, *up_bias;  // [segments]
    int64_t width;
    Reads reads;
    Adds adds;
    int64_t closes;
    Activation activation;
    double scaling;
    int64_t has_norm;
    const float *weight, *bias;  // of the norm; either may be null
    double eps;
};

template <class T>
struct Site : Call<T> {
    const Norm* norm;  // null: none
    explicit Site(const Call<T>& call) : Call<T>(call), norm(nullptr) {}
    const T* f_at(long row) const { return this->f + row * this->f_stride; }
    const T* r_at(long row) const { return this->r + row * this->r_stride; }
    // What will be asked for.
    Range matrix(const int64_t* starts, const Block& block) const {
        return {this->arena + starts[block.segment], long(this->hidden * this->width * sizeof(T))};
    }
    Range rows_of(const T* first, long stride, const Block& block) const {
        return {first, long(((block.rows - 1) * stride + this->hidden) * sizeof(T))};
    }
    long steps(const Block& block) const { return block.rows * (this->hidden + LANES - 1) / LANES; }
};

// f + r of a row, counted from the first of a block.
template <class T>
auto sums_of(const Site<T>& site, const Block& block) {
    return [f = site.f_at(block.first), r = site.r_at(block.first), &site](long row, long place, auto lanes) {
        return load(f + row * site.f_stride + place, lanes) + load(r + row * site.r_stride + place, lanes);
    };
}

// x of a block where it is a norm or a sum, in working memory; keeps the moments of every row.
template <class T>
T* normed(const Site<T>& site, const Block& block, Moments* moments) {
    T* const x = scratch<Use::rows, T>(BLOCK * site.hidden);
    Ahead ahead({site.matrix(site.up, block)}, site.steps(block));
    const auto both = [&, sums = sums_of(site, block)](long row, long place, auto lanes) {
        ahead.step();
        return sums(row, place, lanes);
    };
    if (site.norm != nullptr) {
        normalise(block.rows, site.hidden, *site.norm, both, x, site.hidden, moments);
        return x;
    }
    for (long row = 0; row < block.rows; ++row)
        sweep(site.hidden,
              [&](long place, auto lanes) { store(x + row * site.hidden + place, both(row, place, lanes), lanes); });
    return x;
}

template <class T>
T* inner(const Site<T>& site, const Block& block, const T* x, long stride, Ahead ahead) {
    const T* const down = site.arena + site.down[block.segment];
    const T* const bias = site.arena + site.down_bias[block.segment];
    const auto run = [&](auto activation) {
        return downwards(
            x, stride, block.rows, site.hidden, down, site.width,
            [&](Floats sums, long place, auto lanes) {
                return activated<decltype(activation)::value>(sums + load(bias + place, lanes));
            },
            [&] { ahead.step(); });
    };
    return with(site.activation, run);
}

// What is added to u of a row before the norm that closes. `Usual`: f + r, which the compiler then knows.
template <bool Usual, class T, class Number>
Floats added(const Site<T>& site, const T* f, const T* r, Moments moments, long place, Number lanes) {
    if constexpr (Usual) return load(f + place, lanes) + load(r + place, lanes);
    const bool own = site.adds == Adds::x, normed = own && site.reads == Reads::normed,
               both = normed || site.adds == Adds::sum;
    Floats found{};
    if (both || site.adds == Adds::f || (own && site.reads == Reads::f)) found += load(f + place, lanes);
    if (both || (own && site.reads == Reads::r)) found += load(r + place, lanes);
    if (normed && site.norm != nullptr) found = normalised(found, *site.norm, moments, place, lanes);
    return site.closes ? found + load(r + place, lanes) : found;
}

// y of some rows from their sums [rows, hidden]; their moments become those of the norm that closes.
template <bool Usual, class T>
void leave(const Site<T>& site, const Block& block, const float* sums, Moments* moments, Ahead& ahead) {
    const T *const bias = site.arena + site.up_bias[block.segment], *const f = site.f_at(block.first);
    const T* const r = site.r == nullptr ? nullptr : site.r_at(block.first);
    T* const y = site.y + block.first * site.y_stride;
    const auto out = [&](long row, long place, auto lanes) {
        ahead.step();
        const Floats u =
            (load(sums + row * site.hidden + place, lanes) + load(bias + place, lanes)) * (float)site.scaling;
        return u + added<Usual>(site, f + row * site.f_stride, r + row * site.r_stride, moments[row], place, lanes);
    };
    if (site.closes && site.norm != nullptr) {
        normalise(block.rows, site.hidden, *site.norm, out, y, site.y_stride, moments);
        return;
    }
    for (long row = 0; row < block.rows; ++row)
        sweep(site.hidden,
              [&](long place, auto lanes) { store(y + row * site.y_stride + place, out(row, place, lanes), lanes); });
}

// `next` is the block that this thread will probably do after this one.
template <class T>
void one_block(const Site<T>& site, const Block& block, const Block& next) {
    Moments moments[BLOCK] = {};
    const bool normed_first = site.reads == Reads::normed;
    const T* const x = normed_first             ? normed(site, block, moments)
                       : site.reads == Reads::f ? site.f_at(block.first)
                                                : site.r_at(block.first);
    Ahead soon, later;
    if (!normed_first && site.r != nullptr)
        soon = Ahead({site.matrix(site.up, block), site.rows_of(site.r_at(block.first), site.r_stride, block)},
                     turns(x, block.rows, site.hidden));
    if (next.first != block.first) {
        const Range down = site.matrix(site.down, next), f = site.rows_of(site.f_at(next.first), site.f_stride, next);
        if (normed_first)
            later = Ahead({down, f, site.rows_of(site.r_at(next.first), site.r_stride, next)}, site.steps(block));
        else
            later = Ahead({down, f}, site.steps(block));
    }
    const T* const z = inner(site, block, x,
                             normed_first             ? site.hidden
                             : site.reads == Reads::f ? site.f_stride
                                                      : site.r_stride,
                             soon);
    const T* const right = packed_up(site.arena + site.up[block.segment], site.hidden, site.width);
    float* const sums = scratch<Use::sums, float>(TILE * site.hidden);
    const auto finish = site.closes && site.adds == Adds::f ? leave<true, T> : leave<false, T>;
    for (long row = 0; row < block.rows; row += TILE) {
        upwards(z + row * depth(site.width, z), right, site.hidden, site.width, sums);
        finish(site, {block.segment, block.first + row, std::min(TILE, block.rows - row)}, sums, moments + row, later);
    }
}

template <class T>
void run(const Call<T>& call) {
    const auto blocks = blocks_of(call.segments, call.rows);
    const long count = call.segments.count;
    check_offsets(call.down, count, call.hidden * call.width, call.elements);
    check_offsets(call.down_bias, count, call.width, call.elements);
    check_offsets(call.up, count, call.hidden * call.width, call.elements);
    check_offsets(call.up_bias, count, call.hidden, call.elements);
    Site<T> site(call);
    const Norm norm = call.has_norm ? norm_of(call.weight, call.bias, call.eps, call.hidden) : Norm{};
    if (call.has_norm) site.norm = &norm;
    each_task(blocks.size(), call.threads, [&](long task) {
        one_block(site, blocks[task], blocks[std::min<long>(task + call.threads, blocks.size() - 1)]);
    });
}

}  // namespace
}  // namespace chorus

extern "C" int chorus_bottleneck(const void* call) {
    return chorus::answered(call,
                            [&](auto element) { run(*static_cast<const chorus::Call<decltype(element)>*>(call)); });
}
