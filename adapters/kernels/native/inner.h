// The two products that low-rank maps and bottlenecks share: down to a narrow inner width, and up again.
#pragma once

#include <algorithm>

#include "pack.h"
#include "scratch.h"

namespace chorus {

// z [padded, depth(narrow)] = finish(x downᵀ) of x [rows, wide] and down [narrow, wide], ready for the product upwards;
// finish(lanes, place, number of lanes) of one row at a place. each() is called while x is packed, `turns` times.
template <class T, class Finish, class Each>
T* downwards(const T* x, long stride, long rows, long wide, const T* down, long narrow, Finish finish, Each each) {
    const long padded = up_to(rows, TILE), deep = depth(wide, x), ld = depth(narrow, x);
    T* const right = scratch<Use::columns, T>(deep * padded);
    pack_transposed(x, stride, rows, wide, right, padded, each);
    float* const columns = scratch<Use::inner, float>(narrow * padded);
    multiply(narrow, padded, deep, left(down, narrow, wide), deep, right, padded, columns, padded);
    T* const z = scratch<Use::states, T>(padded * ld);
    if (ld != narrow)
        for (long row = 0; row < padded; ++row) z[row * ld + narrow] = T{};
    unpack_transposed(columns, padded, padded, narrow, [&](Floats sums, long row, long place, auto lanes) {
        store(z + row * ld + place, finish(sums, place, lanes), lanes);
    });
    return z;
}

// up [out, narrow] as the right-hand side of products.
template <class T>
T* packed_up(const T* up, long out, long narrow) {
    const long padded = up_to(out, LANES);
    T* const right = scratch<Use::weights, T>(depth(narrow, up) * padded);
    pack_transposed(up, narrow, out, narrow, right, padded);
    return right;
}

// sums [TILE, out] = z upᵀ of TILE rows of z, with up as `packed_up` made it.
template <class T>
void upwards(const T* z, const T* right, long out, long narrow, float* sums) {
    const long deep = depth(narrow, z);
    multiply(TILE, out, deep, z, deep, right, up_to(out, LANES), sums, out);
}

}  // namespace chorus
