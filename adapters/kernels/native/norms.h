// Layer normalisation of one row at a time: two passes over float32, mean first.
#pragma once

#include <algorithm>
#include <cmath>

#include "scratch.h"
#include "vectors.h"

namespace chorus {

struct Norm {
    const float* weight;
    const float* bias;
    float eps;
};

struct Moments {
    float mean, scale;  // scale: one over the standard deviation
};

// A frozen norm; where its weight or bias is null, ones or zeros in the working memory of this thread stand for it.
inline Norm norm_of(const float* weight, const float* bias, float eps, long width) {
    if (weight == nullptr) {
        float* const ones = scratch<Use::norm_weight, float>(width);
        std::fill(ones, ones + width, 1.0f);
        weight = ones;
    }
    if (bias == nullptr) {
        float* const zeros = scratch<Use::norm_bias, float>(width);
        std::fill(zeros, zeros + width, 0.0f);
        bias = zeros;
    }
    return {weight, bias, eps};
}

template <class Number>
inline Floats normalised(Floats x, const Norm& norm, Moments m, long place, Number lanes) {
    return (x - m.mean) * m.scale * load(norm.weight + place, lanes) + load(norm.bias + place, lanes);
}

// to[row] = norm(x(row, place, number of lanes)) for rows [0, rows), `stride` apart; `kept` takes their moments. Some
// rows are done together, so that one's latencies hide behind another's work. x is read in full before its row is
// written.
template <class T, class Fill>
inline void normalise(long rows, long width, const Norm& norm, Fill x, T* to, long stride, Moments* kept) {
    constexpr long TOGETHER = 4;
    float* const held = scratch<Use::outer, float>(TOGETHER * width);
    for (long first = 0; first < rows; first += TOGETHER) {
        const long count = std::min(TOGETHER, rows - first);
        Moments* const moments = kept + first;
        for (long i = 0; i < count; ++i) {
            const Floats total = accumulate(width, [&](long place, auto lanes) {
                const Floats found = beyond(x(first + i, place, lanes), lanes, 0.0f);
                store(held + i * width + place, found, lanes);
                return found;
            });
            moments[i].mean = sum(total) / width;
        }
        for (long i = 0; i < count; ++i) {
            const Floats squares = accumulate(width, [&](long place, auto lanes) {
                const Floats apart = beyond(load(held + i * width + place, lanes) - moments[i].mean, lanes, 0.0f);
                return apart * apart;
            });
            moments[i].scale = 1.0f / std::sqrt(sum(squares) / width + norm.eps);
        }
        for (long i = 0; i < count; ++i)
            sweep(width, [&](long place, auto lanes) {
                store(to + (first + i) * stride + place,
                      normalised(load(held + i * width + place, lanes), norm, moments[i], place, lanes), lanes);
            });
    }
}

}  // namespace chorus
