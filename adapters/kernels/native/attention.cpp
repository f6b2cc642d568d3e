// Attention of packed rows: every row by itself and its prefix, keys in blocks, with a running softmax (Milakov and
// Gimelshein 2018, arXiv:1805.02867; Dao et al. 2022, arXiv:2205.14135).
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "calls.h"
#include "functions.h"
#include "pack.h"
#include "scratch.h"

namespace chorus {
namespace {

constexpr long QUERIES = 64, KEYS = 128;  // of one product
constexpr long TOGETHER = 4;              // queries, so that one's latencies hide behind another's work
constexpr float LEAST = -std::numeric_limits<float>::infinity();

template <class T>
struct Call {
    int64_t storage, threads;
    const T *q, *k, *v;
    T* out;  // [tokens, heads * width]
    int64_t q_stride, k_stride, v_stride, tokens, heads, key_heads, width;
    const int32_t* starts;
    int64_t rows;
    double scaling;
    int64_t window;            // 0: none
    int64_t causal;            // whether a query sees no token behind its own
    const T* const* prefixes;  // [rows] [2, more, key_heads * width]; null: none at all
    const int32_t* more;       // [rows]
};

// Keys of one row and head of keys: those of the prefix, then its own, in blocks as products want them.
template <class T>
struct Keys {
    const T *keys, *values;  // a block of either has KEYS * depth and KEYS * width elements
    long more, count;        // keys of the prefix, and all
};

// Rows [start, start + rows) of prefix and own tokens together, one after another as the products want them.
template <class T>
void gather(const T* before, long before_stride, const T* own, long own_stride, long more, long start, long rows,
            long width, T* to) {
    for (long i = 0; i < rows; ++i) {
        const long row = start + i;
        copy(row < more ? before + row * before_stride : own + (row - more) * own_stride, to + i * width, width);
    }
}

template <class T>
Keys<T> keys_of(const Call<T>& call, long row, long head) {
    const long first = call.starts[row], width = call.width, full = call.key_heads * width;
    const long more = call.prefixes == nullptr ? 0 : call.more[row], count = more + call.starts[row + 1] - first;
    const long blocks = (count + KEYS - 1) / KEYS, deep = depth(width, call.q);
    const T* const before = more == 0 ? nullptr : call.prefixes[row] + head * width;
    const T *const k = call.k + first * call.k_stride + head * width, *const v =
                                                                          call.v + first * call.v_stride + head * width;
    T* const keys = scratch<Use::keys, T>(blocks * KEYS * deep);
    T* const values = scratch<Use::values, T>(blocks * KEYS * width);
    T* const rows = scratch<Use::rows, T>(KEYS * width);
    for (long start = 0; start < count; start += KEYS) {
        const long held = std::min(KEYS, count - start), padded = up_to(held, TILE);
        const bool mixed = start < more;
        if (mixed) gather(before, full, k, call.k_stride, more, start, held, width, rows);
        pack_transposed(mixed ? rows : k + (start - more) * call.k_stride, mixed ? width : call.k_stride, held, width,
                        keys + start * deep, padded);
        if (mixed) gather(before + more * full, full, v, call.v_stride, more, start, held, width, rows);
        pack_rows(mixed ? rows : v + (start - more) * call.v_stride, mixed ? width : call.v_stride, held, width,
                  values + start * width, padded);
    }
    return {keys, values, more, count};
}

// Which keys of a block [start, start + rows) a query sees: all of the prefix, and from `low` up to `high`.
struct Seen {
    long more, low, high;
    bool none(long start, long rows) const { return start >= more && (start >= high || start + rows <= low); }
};

inline Floats hidden_from(Floats scores, const Seen& seen, long key) {
    const Ints number = lane_numbers() + (int32_t)key;
    const Ints near = (number >= (int32_t)seen.low) & (number < (int32_t)seen.high);
    return (number < (int32_t)seen.more) | near ? scores : all(LEAST);
}

// What a query's softmax has seen so far, and by what its earlier shares have to be multiplied for the block at hand.
struct Running {
    float most = LEAST, total = 0.0f, kept = 0.0f;
};

// One query's scores [padded], scaled, hidden where they are not seen, and the largest so far.
inline void scale_scores(float* scores, long padded, long key, const Seen& seen, bool whole, float scaling,
                         Running& running) {
    Floats most = all(LEAST);
    for (long place = 0; place < padded; place += LANES) {
        Floats scaled = load(scores + place, Full{}) * scaling;
        if (!whole) scaled = hidden_from(scaled, seen, key + place);
        store(scores + place, scaled, Full{});
        most = larger(most, scaled);
    }
    const float before = running.most;
    running.most = std::max(before, largest(most));
    running.kept = before == LEAST ? 0.0f : before == running.most ? 1.0f : std::exp(before - running.most);
}

// One query's scores [padded] become shares, e^(score - most). They may lie in the same place.
template <class T>
inline void shares_of(const float* scores, T* shares, long padded, Running& running) {
    const float most = running.most == LEAST ? 0.0f : running.most;  // LEAST: it has seen nothing yet
    Floats total{};
    for (long place = 0; place < padded; place += LANES) {
        const Floats share = exponential_below_88(load(scores + place, Full{}) - most);
        store(shares + place, share, Full{});
        total += share;
    }
    running.total = running.total * running.kept + sum(total);
}

inline float* in_place(float* scores, const float*) { return scores; }
inline Bf16* in_place(float*, const Bf16*) { return scratch<Use::shares, Bf16>(QUERIES * KEYS); }

// Queries as a left-hand side [TILE * n, depth]; what stands in the rows beyond `rows` reaches only their own sums.
template <class T>
T* queries_of(const T* q, long stride, long rows, long width) {
    const long deep = depth(width, q);
    T* const queries = scratch<Use::queries, T>(QUERIES * deep);
    for (long i = 0; i < rows; ++i) {
        copy(q + i * stride, queries + i * deep, width);
        if (deep != width) queries[i * deep + width] = T{};
    }
    return queries;
}

// Queries [first, first + rows) of a row's own tokens.
template <class T>
void attend(const Call<T>& call, const Keys<T>& keys, const T* q, T* out, long first, long rows) {
    const long width = call.width, deep = depth(width, q), padded = up_to(rows, TILE), full = call.heads * width;
    const T* const queries = queries_of(q + first * call.q_stride, call.q_stride, rows, width);
    float* const scores = scratch<Use::scores, float>(QUERIES * KEYS);
    float* const sums = scratch<Use::sums, float>(QUERIES * width);
    T* const shares = in_place(scores, q);
    Running running[QUERIES];
    const auto seen_by = [&](long i) {
        const long own = keys.more + first + i, low = call.window == 0 ? keys.more : own - call.window + 1;
        const long high = call.causal ? own + 1 : call.window == 0 ? keys.count : own + call.window;
        return Seen{keys.more, std::max(keys.more, low), std::min(keys.count, high)};
    };
    const bool limited = call.window != 0 || call.causal;
    bool begun = false;
    for (long start = 0; start < keys.count; start += KEYS) {
        const long held = std::min(KEYS, keys.count - start), wide = up_to(held, TILE);
        if (Seen{keys.more, seen_by(0).low, seen_by(rows - 1).high}.none(start, held)) continue;
        multiply(padded, wide, deep, queries, deep, keys.keys + start * deep, wide, scores, wide);
        for (long from = 0; from < rows; from += TOGETHER) {
            const long end = std::min(rows, from + TOGETHER);
            for (long i = from; i < end; ++i) {
                const Seen seen = seen_by(i);
                const bool whole =
                    held == wide && (!limited || (seen.low <= start && start + held <= seen.high));
                scale_scores(scores + i * wide, wide, start, seen, whole, call.scaling, running[i]);
            }
            for (long i = from; i < end; ++i) shares_of(scores + i * wide, shares + i * wide, wide, running[i]);
        }
        for (long i = 0; begun && i < rows; ++i)
            sweep(width, [&](long place, auto lanes) {
                store(sums + i * width + place, load(sums + i * width + place, lanes) * running[i].kept, lanes);
            });
        multiply(padded, width, wide, shares, wide, keys.values + start * width, width, sums, width, begun);
        begun = true;
    }
    for (long i = 0; i < rows; ++i) {
        const float scale = 1.0f / running[i].total;
        sweep(width, [&](long place, auto lanes) {
            store(out + (first + i) * full + place, load(sums + i * width + place, lanes) * scale, lanes);
        });
    }
}

template <class T>
void run(const Call<T>& call) {
    if (call.starts[0] != 0 || call.starts[call.rows] != call.tokens) throw Refusal{bad_starts};
    for (long row = 0; row < call.rows; ++row)
        if (call.starts[row + 1] < call.starts[row]) throw Refusal{bad_starts};
    std::vector<long> order(call.rows);  // long rows first, so that threads end together
    std::iota(order.begin(), order.end(), 0);
    const auto length = [&](long row) { return call.starts[row + 1] - call.starts[row]; };
    if (call.threads > 1)
        std::stable_sort(order.begin(), order.end(), [&](long a, long b) { return length(a) > length(b); });
    const long sharing = call.heads / call.key_heads;
    each_task(call.rows * call.key_heads, call.threads, [&](long task) {
        const long row = order[task / call.key_heads], shared = task % call.key_heads;
        if (length(row) == 0) return;
        const Keys<T> keys = keys_of(call, row, shared);
        const long first = call.starts[row];
        for (long head = shared * sharing; head < (shared + 1) * sharing; ++head) {
            const long column = head * call.width;
            for (long query = 0; query < length(row); query += QUERIES)
                attend(call, keys, call.q + first * call.q_stride + column,
                       call.out + first * call.heads * call.width + column, query,
                       std::min<long>(QUERIES, length(row) - query));
        }
    });
}

}  // namespace
}  // namespace chorus

extern "C" int chorus_attention(const void* call) {
    return chorus::answered(call,
                            [&](auto element) { run(*static_cast<const chorus::Call<decltype(element)>*>(call)); });
}
