// Another adapter for every row: y += weight * B (A x), read from packed slots by address.
//
// Rules of this file:
// - One row at a time, in the order in which its adapters are named: neighbours change no bits.
// - Nothing is gathered: a decoding row streams its adapter's bytes once; rows of one prompt find them in the
//   cache. Products are bf16, sums fp32; A x is rounded to bf16 between the two, as the base's activations are.
// - The layout of a slot is written by `lora_layout.py`, which describes it.
#pragma once

#include "simd.h"

enum Target : int32_t { Q, K, V, O, GATE, UP, DOWN, TARGETS };

// One adapter on one row. offsets: bf16 numbers from a layer's start to A of each target, as
// [rank / 8][in / 32][8][32], -1 if it has none; B follows as [out / 16][rank / 2][16][2].
struct Low {
    const bf16* slot;
    int64_t layer_size;  // bf16 numbers
    int64_t offsets[TARGETS];
    int32_t rank;  // a multiple of 8
    float weight;  // alpha / rank, times the adapter's part in the request
};

constexpr int MAX_RANK = 256;

constexpr int AHEAD = 1024;  // bytes that are asked for before they are needed

// Rows of one prompt find their adapter in the cache: only the first of them (FRESH) asks for it ahead.
template <bool FRESH>
static inline void ask(const bf16* at) {
    if (FRESH) _mm_prefetch((const char*)at + AHEAD, _MM_HINT_T0);
}

// The sums of eight registers, by halves.
static inline __m256 sum8(const __m512* of) {
    __m256 half[8];
    for (int i = 0; i < 8; ++i)
        half[i] = _mm256_add_ps(_mm512_castps512_ps256(of[i]), _mm512_extractf32x8_ps(of[i], 1));
    const __m256 low = _mm256_hadd_ps(_mm256_hadd_ps(half[0], half[1]), _mm256_hadd_ps(half[2], half[3]));
    const __m256 high = _mm256_hadd_ps(_mm256_hadd_ps(half[4], half[5]), _mm256_hadd_ps(half[6], half[7]));
    return _mm256_add_ps(_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31));
}

// 8 ranks of A, which lie as [in / 32][8][32], against one x.
template <bool FRESH>
static inline const bf16* dot8(const bf16* a, const bf16* x, int in, float scale, bf16* out) {
    __m512 sum[8];
    for (int row = 0; row < 8; ++row) sum[row] = _mm512_setzero_ps();
    for (int k = 0; k < in; k += PAIRS) {
        const __m512bh pairs = load_pairs(x + k);
#pragma GCC unroll 8
        for (int row = 0; row < 8; ++row, a += PAIRS) {
            ask<FRESH>(a);
            sum[row] = _mm512_dpbf16_ps(sum[row], load_pairs(a), pairs);
        }
    }
    const __m256 scaled = _mm256_mul_ps(sum8(sum), _mm256_set1_ps(scale));
    _mm_storeu_si128((__m128i*)out, (__m128i)_mm256_cvtneps_pbh(scaled));
    return a;
}

template <bool FRESH>
static void add_rows(const Low& low, const bf16* at, const bf16* x, int in, float* y, int out) {
    alignas(64) bf16 narrow[MAX_RANK];
    for (int row = 0; row < low.rank; row += 8) at = dot8<FRESH>(at, x, in, low.weight, narrow + row);
    for (int column = 0; column < out; column += LANES) {
        __m512 even = _mm512_loadu_ps(y + column), odd = _mm512_setzero_ps();
        for (int row = 0; row < low.rank; row += 4, at += 4 * LANES) {
            ask<FRESH>(at);
            ask<FRESH>(at + PAIRS);
            even = _mm512_dpbf16_ps(even, load_pairs(at), broadcast_pair(narrow + row));
            odd = _mm512_dpbf16_ps(odd, load_pairs(at + PAIRS), broadcast_pair(narrow + row + 2));
        }
        _mm512_storeu_ps(y + column, _mm512_add_ps(even, odd));
    }
}

static void add_target(const Low& low, bool fresh, int layer, Target target, const bf16* x, int in, float* y, int out) {
    if (low.offsets[target] < 0) return;
    const bf16* at = low.slot + layer * low.layer_size + low.offsets[target];
    if (fresh)
        add_rows<true>(low, at, x, in, y, out);
    else
        add_rows<false>(low, at, x, in, y, out);
}
