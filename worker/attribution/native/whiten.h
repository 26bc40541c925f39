// A gradient whitened by its tensor's curvature and added to the buckets of a projection (`curvature.py` and
// `sketch.py` say what is computed).
//
// Rules of this file:
// - The wide side's basis is read as the int8 it is stored as; the steps of its columns are put to what is
//   multiplied by them.
// - Buckets are float64 and filled in the order of coordinates.
#pragma once

#include "low.h"

struct Whitening {
    const float* gradient;  // [rank][wide]
    const float* basis;     // [rank][rank], an eigenvector a row
    const int8_t* codes;    // [columns][wide]
    const float* steps;     // [columns]
    const float* top;       // [rank][columns]
    const float* rest;      // [rank][wide], or null where the columns leave nothing
    int32_t rank, wide, columns, unused;
};

static inline __m512 spread_codes(const int8_t* from, __mmask16 mask) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(mask, from)));
}

// rotated [ROWS][wide]: rows `first` … of the basis times the gradient.
template <int ROWS>
static void turn(const Whitening& w, int first, float* rotated) {
    for (int k = 0; k < w.wide; k += LANES) {
        const __mmask16 mask = lanes_left(w.wide - k);
        __m512 sum[ROWS];
        for (int i = 0; i < ROWS; ++i) sum[i] = _mm512_setzero_ps();
        for (int j = 0; j < w.rank; ++j) {
            const __m512 row = _mm512_maskz_loadu_ps(mask, w.gradient + (size_t)j * w.wide + k);
#pragma GCC unroll 8
            for (int i = 0; i < ROWS; ++i)
                sum[i] = _mm512_fmadd_ps(_mm512_set1_ps(w.basis[(size_t)(first + i) * w.rank + j]), row, sum[i]);
        }
        for (int i = 0; i < ROWS; ++i) _mm512_mask_storeu_ps(rotated + (size_t)i * w.wide + k, mask, sum[i]);
    }
}

// inside [ROWS][columns]: rotated times COLUMNS columns of codes, without their steps.
template <int ROWS, int COLUMNS>
static void enter(const Whitening& w, const float* rotated, int column, float* inside) {
    __m512 sum[ROWS][COLUMNS];
    for (int i = 0; i < ROWS; ++i)
        for (int c = 0; c < COLUMNS; ++c) sum[i][c] = _mm512_setzero_ps();
    for (int k = 0; k < w.wide; k += LANES) {
        const __mmask16 mask = lanes_left(w.wide - k);
        __m512 codes[COLUMNS];
        for (int c = 0; c < COLUMNS; ++c) codes[c] = spread_codes(w.codes + (size_t)(column + c) * w.wide + k, mask);
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; ++i) {
            const __m512 row = _mm512_maskz_loadu_ps(mask, rotated + (size_t)i * w.wide + k);
            for (int c = 0; c < COLUMNS; ++c) sum[i][c] = _mm512_fmadd_ps(row, codes[c], sum[i][c]);
        }
    }
    for (int i = 0; i < ROWS; ++i)
        for (int c = 0; c < COLUMNS; ++c) inside[(size_t)i * w.columns + column + c] = _mm512_reduce_add_ps(sum[i][c]);
}

// out [ROWS][wide]: what the columns leave of rotated, times `rest`; `pull` [ROWS][columns] is inside times
// steps squared.
template <int ROWS>
static void leave(const Whitening& w, int first, const float* rotated, const float* pull, float* out) {
    for (int k = 0; k < w.wide; k += LANES) {
        const __mmask16 mask = lanes_left(w.wide - k);
        __m512 left[ROWS];
        for (int i = 0; i < ROWS; ++i) left[i] = _mm512_maskz_loadu_ps(mask, rotated + (size_t)i * w.wide + k);
        for (int c = 0; c < w.columns; ++c) {
            const __m512 codes = spread_codes(w.codes + (size_t)c * w.wide + k, mask);
#pragma GCC unroll 8
            for (int i = 0; i < ROWS; ++i)
                left[i] = _mm512_fnmadd_ps(_mm512_set1_ps(pull[(size_t)i * w.columns + c]), codes, left[i]);
        }
        for (int i = 0; i < ROWS; ++i) {
            const __m512 rest = _mm512_maskz_loadu_ps(mask, w.rest + (size_t)(first + i) * w.wide + k);
            _mm512_mask_storeu_ps(out + (size_t)i * w.wide + k, mask, _mm512_mul_ps(left[i], rest));
        }
    }
}

// ROWS rows of the whitened gradient: inside [rank][columns], then what is left [rank][wide]. `rotated` and
// `pull` are room for [ROWS][wide] and [ROWS][columns].
template <int ROWS>
static void whiten_rows(const Whitening& w, int first, float* rotated, float* pull, float* out) {
    turn<ROWS>(w, first, rotated);
    float* inside = out + (size_t)first * w.columns;
    int column = 0;
    for (; column + 3 <= w.columns; column += 3) enter<ROWS, 3>(w, rotated, column, inside);
    for (; column < w.columns; ++column) enter<ROWS, 1>(w, rotated, column, inside);
    for (int i = 0; i < ROWS; ++i)
        for (int c = 0; c < w.columns; ++c) {
            float* at = inside + (size_t)i * w.columns + c;
            const float scaled = *at * w.steps[c];
            pull[(size_t)i * w.columns + c] = scaled * w.steps[c];
            *at = scaled * w.top[(size_t)(first + i) * w.columns + c];
        }
    if (w.rest != nullptr)
        leave<ROWS>(w, first, rotated, pull, out + (size_t)w.rank * w.columns + (size_t)first * w.wide);
}

// `room` has (rank + 8) * wide + (rank + 8) * columns numbers.
static int64_t whiten(const Whitening& w, float* room) {
    const int64_t size = (int64_t)w.rank * w.columns + (w.rest != nullptr ? (int64_t)w.rank * w.wide : 0);
    float *rotated = room + (int64_t)w.rank * (w.wide + w.columns), *pull = rotated + (int64_t)EIGHT * w.wide;
    int first = 0;
    for (; first + EIGHT <= w.rank; first += EIGHT) whiten_rows<EIGHT>(w, first, rotated, pull, room);
    for (; first < w.rank; ++first) whiten_rows<1>(w, first, rotated, pull, room);
    return size;
}

// Each number goes to the bucket that its draw names, with the sign of the draw's top bit.
static void scatter(const float* numbers, int64_t count, const uint32_t* draws, uint32_t mask, double* buckets) {
    for (int64_t i = 0; i < count; ++i) {
        uint32_t bits;
        std::memcpy(&bits, numbers + i, 4);
        bits ^= draws[i] & 0x80000000u;
        float signed_number;
        std::memcpy(&signed_number, &bits, 4);
        buckets[draws[i] & mask] += (double)signed_number;
    }
}
