// Matrix products in float32 through the micro kernels of oneDNN that torch carries: AMX, AVX-512 or AVX2, as the
// machine has.
//
// C [M, N] = A [M, K] B [K, N]. A and C lie in rows. B lies in rows for float32, and for bfloat16 in rows of pairs,
// [K / 2, N, 2], K even: `pack.h` makes both. A kernel is compiled for every combination of numbers on its first use in
// a thread, so callers keep the number of combinations small.
#pragma once

#include <cstdint>

#include "vectors.h"

namespace c10 {
struct BFloat16;
}

namespace at::native::cpublas {
void brgemm(int64_t M, int64_t N, int64_t K, int64_t ld_a, int64_t ld_b, int64_t ld_c, bool add_C, const float* A,
            const float* B, float* C, bool is_vnni);
void brgemm(int64_t M, int64_t N, int64_t K, int64_t ld_a, int64_t ld_b, int64_t ld_c, bool add_C,
            const c10::BFloat16* A, const c10::BFloat16* B, float* C, bool is_vnni);
void brgemm_release(bool is_vnni);
}  // namespace at::native::cpublas

namespace chorus {

constexpr long TILE = 16;  // rows of a product are padded to a multiple of this

inline long up_to(long count, long multiple) { return (count + multiple - 1) / multiple * multiple; }

// K of a product over `width` elements.
inline long depth(long width, const float*) { return width; }
inline long depth(long width, const Bf16*) { return width + width % 2; }

inline void multiply(long M, long N, long K, const float* A, long lda, const float* B, long ldb, float* C, long ldc,
                     bool add = false) {
    at::native::cpublas::brgemm(M, N, K, lda, ldb, ldc, add, A, B, C, false);
}

inline void multiply(long M, long N, long K, const Bf16* A, long lda, const Bf16* B, long ldb, float* C, long ldc,
                     bool add = false) {
    at::native::cpublas::brgemm(M, N, K, lda, ldb, ldc, add, reinterpret_cast<const c10::BFloat16*>(A),
                                reinterpret_cast<const c10::BFloat16*>(B), C, true);
}

inline void release() { at::native::cpublas::brgemm_release(true); }

}  // namespace chorus
