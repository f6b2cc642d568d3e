// Right-hand sides of matrix products (see `products.h`), made of rows as they lie, and back.
#pragma once

#include <algorithm>

#include "products.h"
#include "scratch.h"
#include "vectors.h"

namespace chorus {

template <class T>
constexpr long PER_WORD = 4 / sizeof(T);  // elements of one 32-bit word

template <class T>
inline Words words_at(const T* from, Full) {
    return bytes_at<Words>(from);
}
template <class T>
inline Words words_at(const T* from, long count) {
    return bytes_at<Words>(from, count);
}

// LANES rows, as words, turned: to[i] = word i of every row; `rows` beyond `count` are zeros.
template <class T, class Number>
inline void turn(const T* rows, long stride, long count, Number wide, long words, T* to, long apart) {
    Words block[LANES];
    if (count >= LANES) {
        for (int i = 0; i < LANES; ++i) block[i] = words_at(rows + i * stride, wide);
    } else {
        for (int i = 0; i < LANES; ++i) block[i] = i < count ? words_at(rows + i * stride, wide) : Words{};
    }
    transpose(block);
    for (int i = 0; i < words; ++i) std::memcpy(to + i * apart, &block[i], sizeof(Words));
}

// The transpose of `rows` [count, width]: right [depth(width), padded] with zeros beyond count, padded >= count and a
// multiple of LANES. each() is called now and then, `turns` times in all (or never, where a row is narrower than that).
template <class T, class Each>
inline void pack_transposed(const T* rows, long stride, long count, long width, T* right, long padded, Each each) {
    constexpr long wide = LANES * PER_WORD<T>;
    for (long row = 0; row < padded; row += LANES) {
        const T* from = rows + row * stride;
        T* to = right + row * PER_WORD<T>;
        long place = 0;
        for (; place + wide <= width; place += wide) {
            turn(from + place, stride, count - row, Full{}, LANES, to + place * padded, padded * PER_WORD<T>);
            each();
        }
        const long held = width - place;
        if (held > 0)
            turn(from + place, stride, count - row, held, (held + PER_WORD<T> - 1) / PER_WORD<T>, to + place * padded,
                 padded * PER_WORD<T>);
    }
}

template <class T>
inline void pack_transposed(const T* rows, long stride, long count, long width, T* right, long padded) {
    pack_transposed(rows, stride, count, width, right, padded, [] {});
}

template <class T>
inline long turns(const T*, long count, long width) {
    return (count + LANES - 1) / LANES * std::max<long>(1, width / (LANES * PER_WORD<T>));
}

// `rows` [count, width] as they are: right [padded, width] with zeros beyond count.
inline void pack_rows(const float* rows, long stride, long count, long width, float* right, long padded) {
    for (long row = 0; row < count; ++row) std::memcpy(right + row * width, rows + row * stride, width * sizeof *rows);
    std::memset(right + count * width, 0, (padded - count) * width * sizeof *rows);
}

inline void pack_rows(const Bf16* rows, long stride, long count, long width, Bf16* right, long padded) {
    for (long row = 0; row < padded; row += 2) {
        const Bf16 *const even = rows + row * stride, *const odd = even + stride;
        uint32_t* const to = reinterpret_cast<uint32_t*>(right + row * width);
        sweep(width, [&](long place, auto lanes) {
            const Words low = row < count ? (Words)load(even + place, lanes) >> 16 : Words{};
            const Words high = row + 1 < count ? (Words)load(odd + place, lanes) : Words{};
            store(reinterpret_cast<float*>(to + place), as_floats(low | high), lanes);
        });
    }
}

// A left-hand side [count, width] as it lies, or a copy of it with zeros where bfloat16 has no whole pairs.
inline const float* left(const float* rows, long, long) { return rows; }

inline const Bf16* left(const Bf16* rows, long count, long width) {
    if (width % 2 == 0) return rows;
    Bf16* const even = scratch<Use::weights, Bf16>(count * (width + 1));
    for (long row = 0; row < count; ++row) {
        std::memcpy(even + row * (width + 1), rows + row * width, width * sizeof *rows);
        even[row * (width + 1) + width] = Bf16{0};
    }
    return even;
}

// What `transposed` [width, padded] holds, in rows: rows[i] = finish(lanes of row i at a place, i, place, number).
template <class Finish>
inline void unpack_transposed(const float* transposed, long padded, long count, long width, Finish finish) {
    for (long place = 0; place < width; place += LANES) {
        const long held = width - place < LANES ? width - place : LANES;
        for (long row = 0; row < count; row += LANES) {
            Words block[LANES];
            for (int i = 0; i < LANES; ++i)
                block[i] = i < held ? bytes_at<Words>(transposed + (place + i) * padded + row) : Words{};
            transpose(block);
            const long end = count - row < LANES ? count - row : LANES;
            if (held == LANES) {
                for (long i = 0; i < end; ++i) finish(as_floats(block[i]), row + i, place, Full{});
            } else {
                for (long i = 0; i < end; ++i) finish(as_floats(block[i]), row + i, place, held);
            }
        }
    }
}

}  // namespace chorus
