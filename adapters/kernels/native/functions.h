// Functions of float32 lanes, within a few units in the last place; a NaN goes in and comes out.
#pragma once

#include "vectors.h"

namespace chorus {

inline Floats magnitude(Floats x) { return as_floats((Words)x & 0x7fffffffu); }
inline Floats with_sign_of(Floats x, Floats sign) { return as_floats((Words)x | ((Words)sign & 0x80000000u)); }

// e^x for x <= 88: x = n ln 2 + r, |r| <= ln 2 / 2, Taylor's series of e^r, n put into the exponent. Below the normal
// numbers it is 0.
inline Floats exponential_below_88(Floats x) {
    constexpr float LEAST = -87.3f, ROUNDER = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
    const Floats shifted = x * 1.44269504f + ROUNDER;
    const Floats n = shifted - ROUNDER;
    const Floats r = (x - n * 0.693145752f) - n * 1.42860677e-6f;
    Floats series = all(1.0f / 5040) * r + 1.0f / 720;
    series = series * r + 1.0f / 120;
    series = series * r + 1.0f / 24;
    series = series * r + 1.0f / 6;
    series = series * r + 0.5f;
    series = series * r + 1.0f;
    series = series * r + 1.0f;
    const Words power = ((Words)shifted << 23) + (127u << 23);
    const Floats found = series * as_floats(power);
    return x < LEAST ? Floats{} : found;
}

// e^x, at most e^88.
inline Floats exponential(Floats x) { return exponential_below_88(x > 88.0f ? all(88.0f) : x); }

inline Floats sigmoid(Floats x) { return 1.0f / (1.0f + exponential(-x)); }

// Near zero Taylor's series, where the quotient would lose digits.
inline Floats hyperbolic_tangent(Floats x) {
    const Floats size = magnitude(x), square = x * x;
    const Floats e = exponential(size * -2.0f);
    Floats series = square * (62.0f / 2835) - 17.0f / 315;
    series = series * square + 2.0f / 15;
    series = series * square - 1.0f / 3;
    const Floats near = x + x * square * series;
    return size < 0.25f ? near : with_sign_of((1.0f - e) / (1.0f + e), x);
}

// Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26: |error| <= 1.5e-7.
inline Floats error_function(Floats x) {
    const Floats size = magnitude(x), t = 1.0f / (1.0f + 0.3275911f * size);
    Floats series = t * 1.061405429f - 1.453152027f;
    series = series * t + 1.421413741f;
    series = series * t - 0.284496736f;
    series = series * t + 0.254829592f;
    return with_sign_of(1.0f - series * t * exponential(-size * size), x);
}

// In the order of the numbers that `adapters/kernels/cpu.py` gives them.
enum class Activation : int64_t { linear, relu, gelu, gelu_tanh, silu, tanh, sigmoid, leaky_relu };

template <Activation A>
inline Floats activated(Floats x) {
    if constexpr (A == Activation::relu) return x <= 0.0f ? Floats{} : x;
    if constexpr (A == Activation::gelu) return 0.5f * x * (1.0f + error_function(x * 0.70710678f));
    if constexpr (A == Activation::gelu_tanh)
        return x * sigmoid(1.5957691216f * (x + 0.044715f * x * x * x));  // (1 + tanh u) / 2 = sigmoid(2 u)
    if constexpr (A == Activation::silu) return x * sigmoid(x);
    if constexpr (A == Activation::tanh) return hyperbolic_tangent(x);
    if constexpr (A == Activation::sigmoid) return sigmoid(x);
    if constexpr (A == Activation::leaky_relu) return x < 0.0f ? 0.01f * x : x;
    return x;
}

template <Activation A>
struct Constant {
    static constexpr Activation value = A;
};

// run(Constant<activation>), so that loops do not ask which it is.
template <class Run>
inline auto with(Activation activation, Run run) {
    switch (activation) {
        case Activation::relu: return run(Constant<Activation::relu>{});
        case Activation::gelu: return run(Constant<Activation::gelu>{});
        case Activation::gelu_tanh: return run(Constant<Activation::gelu_tanh>{});
        case Activation::silu: return run(Constant<Activation::silu>{});
        case Activation::tanh: return run(Constant<Activation::tanh>{});
        case Activation::sigmoid: return run(Constant<Activation::sigmoid>{});
        case Activation::leaky_relu: return run(Constant<Activation::leaky_relu>{});
        case Activation::linear: break;
    }
    return run(Constant<Activation::linear>{});
}

}  // namespace chorus
