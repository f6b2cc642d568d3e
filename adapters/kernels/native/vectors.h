// Vectors of float32 lanes: loads and stores of both storage types, whole or in part, sums, and transposition.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace chorus {

#ifdef __AVX512F__
constexpr int LANES = 16;
#else
constexpr int LANES = 8;
#endif

typedef float Floats __attribute__((vector_size(LANES * 4)));
typedef int32_t Ints __attribute__((vector_size(LANES * 4)));
typedef uint32_t Words __attribute__((vector_size(LANES * 4)));
typedef uint16_t Halves __attribute__((vector_size(LANES * 2)));

struct Bf16 {
    uint16_t bits;
};

// "All lanes", where a number of lanes could stand.
struct Full {};

inline Floats all(float value) { return value - Floats{}; }
inline Floats as_floats(Words bits) { return (Floats)bits; }
inline Floats as_floats(Ints bits) { return (Floats)bits; }

inline Ints lane_numbers() {
    Ints numbers;
    for (int i = 0; i < LANES; ++i) numbers[i] = i;
    return numbers;
}

inline Floats widen(Halves bits) { return as_floats(__builtin_convertvector(bits, Words) << 16); }

// To the nearest, ties to even; a NaN stays one.
inline Halves narrow(Floats x) {
#ifdef __AVX512BF16__
    return (Halves)_mm512_cvtneps_pbh((__m512)x);
#else
    const Words bits = (Words)x;
    const Words rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    const Words kept = x == x ? rounded : (bits >> 16) | 0x40;
    return __builtin_convertvector(kept, Halves);
#endif
}

template <class Vector, class T>
inline Vector bytes_at(const T* from) {
    Vector found;
    std::memcpy(&found, from, sizeof found);
    return found;
}

// The first `count` elements, and zeros.
#ifdef __AVX512F__
template <class Vector, class T>
inline Vector bytes_at(const T* from, long count) {
    const uint32_t first = (uint32_t)((uint64_t{1} << count) - 1);
    if constexpr (sizeof(T) == 4)
        return (Vector)_mm512_maskz_loadu_epi32(first, from);
    else if constexpr (sizeof(Vector) == 32)
        return (Vector)_mm256_maskz_loadu_epi16(first, from);
    else
        return (Vector)_mm512_maskz_loadu_epi16(first, from);
}
#else
template <class Vector, class T>
inline Vector bytes_at(const T* from, long count) {
    Vector found{};
    std::memcpy(&found, from, count * sizeof(T));
    return found;
}
#endif

inline Floats load(const float* from, Full) { return bytes_at<Floats>(from); }
inline Floats load(const float* from, long count) { return bytes_at<Floats>(from, count); }
inline Floats load(const Bf16* from, Full) { return widen(bytes_at<Halves>(from)); }
inline Floats load(const Bf16* from, long count) { return widen(bytes_at<Halves>(from, count)); }

inline void store(float* to, Floats x, Full) { std::memcpy(to, &x, sizeof x); }
inline void store(float* to, Floats x, long count) { std::memcpy(to, &x, count * sizeof *to); }
inline void store(Bf16* to, Floats x, Full) {
    const Halves bits = narrow(x);
    std::memcpy(to, &bits, sizeof bits);
}
inline void store(Bf16* to, Floats x, long count) {
    const Halves bits = narrow(x);
    std::memcpy(to, &bits, count * sizeof *to);
}

// body(place, Full or number of lanes) over `width` elements.
template <class Body>
inline void sweep(long width, Body body) {
    long place = 0;
    for (; place + LANES <= width; place += LANES) body(place, Full{});
    if (place < width) body(place, width - place);
}

template <class T>
inline void copy(const T* from, T* to, long width) {
    constexpr long held = sizeof(Words) / sizeof(T);
    long place = 0;
    for (; place + held <= width; place += held) std::memcpy(to + place, from + place, sizeof(Words));
    for (; place < width; ++place) to[place] = from[place];
}

// The sum of body(place, Full or number of lanes) over `width` elements, lane by lane; two chains, for the latency.
template <class Body>
inline Floats accumulate(long width, Body body) {
    Floats even{}, odd{};
    long place = 0;
    for (; place + 2 * LANES <= width; place += 2 * LANES) {
        even += body(place, Full{});
        odd += body(place + LANES, Full{});
    }
    if (place + LANES <= width) even += body(place, Full{}), place += LANES;
    if (place < width) odd += body(place, width - place);
    return even + odd;
}

// What lies beyond `count` lanes becomes `value`.
inline Floats beyond(Floats x, Full, float) { return x; }
inline Floats beyond(Floats x, long count, float value) { return lane_numbers() < (int32_t)count ? x : all(value); }

template <int... I>
struct Indices {};
template <int N, int... I>
struct Counted : Counted<N - 1, N - 1, I...> {};
template <int... I>
struct Counted<0, I...> {
    using Type = Indices<I...>;
};
using Lanes = typename Counted<LANES>::Type;

template <int Step, int... I>
inline Floats neighbours(Floats x, Indices<I...>) {
    return __builtin_shufflevector(x, x, (I ^ Step)...);
}

inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }

template <int Step = LANES / 2>
inline float sum(Floats x) {
    if constexpr (Step == 0) {
        return x[0];
    } else {
        return sum<Step / 2>(x + neighbours<Step>(x, Lanes{}));
    }
}

// The largest lane; of NaNs it knows nothing.
template <int Step = LANES / 2>
inline float largest(Floats x) {
    if constexpr (Step == 0) {
        return x[0];
    } else {
        return largest<Step / 2>(larger(x, neighbours<Step>(x, Lanes{})));
    }
}

// Lanes of `a` and `b` where their numbers have the bit `Step` clear (or set), side by side.
template <int Step, bool Upper, int... I>
inline Words woven(Words a, Words b, Indices<I...>) {
    if constexpr (Upper) {
        return __builtin_shufflevector(a, b, ((I & Step) ? LANES + I : I + Step)...);
    } else {
        return __builtin_shufflevector(a, b, ((I & Step) ? LANES + I - Step : I)...);
    }
}

// Rows become columns: LANES rows of LANES words, in place.
template <int Step = LANES / 2>
inline void transpose(Words* rows) {
    if constexpr (Step > 0) {
        for (int i = 0; i < LANES; ++i) {
            if (i & Step) continue;
            const Words a = rows[i], b = rows[i + Step];
            rows[i] = woven<Step, false>(a, b, Lanes{});
            rows[i + Step] = woven<Step, true>(a, b, Lanes{});
        }
        transpose<Step / 2>(rows);
    }
}

}  // namespace chorus
