// An adapter's thin products in fp32, forwards and backwards, for many tokens of one adapter.
//
// Rules of this file:
// - Factors stand rank first: `down` is A [rank][in], `up` is B transposed, [rank][out]; rank is a multiple of 8
//   (the caller pads with zeros). So are their gradients.
// - Sums run in one order, whatever the number of threads: the same inputs give the same bits.
#pragma once

#include "../../engine/native/simd.h"

constexpr int EIGHT = 8;  // ranks that are computed together

static inline __mmask16 lanes_left(int count) { return count >= LANES ? 0xffff : (__mmask16)((1u << count) - 1); }

// s [rows][rank] = scale * x [rows][width] a^T, where a is [rank][width]; x has `stride` numbers a row.
static void squeeze(const float* x, int stride, int rows, int width, const float* a, int rank, float scale, float* s) {
    for (int row = 0; row < rows; ++row, x += stride)
        for (int first = 0; first < rank; first += EIGHT) {
            __m512 sum[EIGHT];
            for (int i = 0; i < EIGHT; ++i) sum[i] = _mm512_setzero_ps();
            for (int k = 0; k < width; k += LANES) {
                const __mmask16 mask = lanes_left(width - k);
                const __m512 entered = _mm512_maskz_loadu_ps(mask, x + k);
#pragma GCC unroll 8
                for (int i = 0; i < EIGHT; ++i)
                    sum[i] = _mm512_fmadd_ps(entered, _mm512_maskz_loadu_ps(mask, a + (size_t)(first + i) * width + k), sum[i]);
            }
            for (int i = 0; i < EIGHT; ++i) s[(size_t)row * rank + first + i] = scale * _mm512_reduce_add_ps(sum[i]);
        }
}

// y [rows][width] += s [rows][rank] a.
static void spread(const float* s, int rows, int rank, const float* a, int width, float* y, int stride) {
    for (int k = 0; k < width; k += LANES) {
        const __mmask16 mask = lanes_left(width - k);
        for (int first = 0; first < rank; first += EIGHT) {
            __m512 column[EIGHT];
            for (int i = 0; i < EIGHT; ++i) column[i] = _mm512_maskz_loadu_ps(mask, a + (size_t)(first + i) * width + k);
            for (int row = 0; row < rows; ++row) {
                float* at = y + (size_t)row * stride + k;
                const float* of = s + (size_t)row * rank + first;
                __m512 sum = _mm512_maskz_loadu_ps(mask, at);
#pragma GCC unroll 8
                for (int i = 0; i < EIGHT; ++i) sum = _mm512_fmadd_ps(_mm512_set1_ps(of[i]), column[i], sum);
                _mm512_mask_storeu_ps(at, mask, sum);
            }
        }
    }
}

// a [rank][width] = s^T x.
static void gather(const float* s, int rows, int rank, const float* x, int stride, int width, float* a) {
    for (int k = 0; k < width; k += LANES) {
        const __mmask16 mask = lanes_left(width - k);
        for (int first = 0; first < rank; first += EIGHT) {
            __m512 sum[EIGHT];
            for (int i = 0; i < EIGHT; ++i) sum[i] = _mm512_setzero_ps();
            for (int row = 0; row < rows; ++row) {
                const __m512 entered = _mm512_maskz_loadu_ps(mask, x + (size_t)row * stride + k);
                const float* of = s + (size_t)row * rank + first;
#pragma GCC unroll 8
                for (int i = 0; i < EIGHT; ++i) sum[i] = _mm512_fmadd_ps(_mm512_set1_ps(of[i]), entered, sum[i]);
            }
            for (int i = 0; i < EIGHT; ++i) _mm512_mask_storeu_ps(a + (size_t)(first + i) * width + k, mask, sum[i]);
        }
    }
}
