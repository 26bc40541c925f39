// y = x W^T for weights packed once: bf16, or int4 in groups of 32 with an fp16 scale and minimum.
//
// Rules of this file:
// - One accumulator an output, fed in the order of k: the sum is the same bits for one row or a thousand, for
//   prefill or decode, on one thread or many.
// - Outputs come in panels of 48 (three registers); eight rows by three registers stay in registers while a
//   panel streams by once. Memory is read strictly forwards.
// - The layouts are written by `packing.py`, which describes them.
#pragma once

#include "simd.h"

constexpr int PANEL = 48;
constexpr int BLOCK = 8;   // rows that share one pass over a panel
constexpr int GROUP = 32;  // int4 weights that share a scale
constexpr int REGISTERS = PANEL / LANES;
constexpr int GROUP_BYTES = 2 * PANEL * 2 + PANEL * GROUP / 2;

enum Kind : int32_t { BF16 = 0, INT4 = 1 };

struct Linear {
    int32_t in, out;
    int32_t kind;
    int32_t unused;
    const uint8_t* packed;
    const float* bias;  // [out] or null
};

// ---- bf16: packed is [panel][k / 2][48][2]

template <int ROWS>
static inline void panel_bf16(const bf16* x, int in, const bf16* w, float* y, int stride) {
    __m512 sum[ROWS][REGISTERS];
    for (int row = 0; row < ROWS; ++row)
        for (int part = 0; part < REGISTERS; ++part) sum[row][part] = _mm512_setzero_ps();
    for (int k = 0; k < in; k += 2, w += 2 * PANEL) {
        const __m512bh w0 = load_pairs(w), w1 = load_pairs(w + PAIRS), w2 = load_pairs(w + 2 * PAIRS);
        _mm_prefetch((const char*)(w + 16 * 2 * PANEL), _MM_HINT_T0);
        _mm_prefetch((const char*)(w + 16 * 2 * PANEL + PAIRS), _MM_HINT_T0);
        _mm_prefetch((const char*)(w + 16 * 2 * PANEL + 2 * PAIRS), _MM_HINT_T0);
#pragma GCC unroll 8
        for (int row = 0; row < ROWS; ++row) {
            const __m512bh pair = broadcast_pair(x + (size_t)row * in + k);
            sum[row][0] = _mm512_dpbf16_ps(sum[row][0], w0, pair);
            sum[row][1] = _mm512_dpbf16_ps(sum[row][1], w1, pair);
            sum[row][2] = _mm512_dpbf16_ps(sum[row][2], w2, pair);
        }
    }
    for (int row = 0; row < ROWS; ++row)
        for (int part = 0; part < REGISTERS; ++part)
            _mm512_storeu_ps(y + (size_t)row * stride + part * LANES, sum[row][part]);
}

// ---- int4: packed is [panel][group]{scales fp16[48], minima fp16[48], nibbles [8][3][32]}

// 64 weights 0 ... 15 as bf16 pairs: of k, k + 1 (low nibbles) and of k + 2, k + 3 (high nibbles).
static inline void unpack(const uint8_t* from, __m512i values, __m512bh& low, __m512bh& high) {
    const __m512i both = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i*)from));
    low = (__m512bh)_mm512_permutexvar_epi16(both, values);  // looks at five bits; the table repeats after 16
    high = (__m512bh)_mm512_permutexvar_epi16(_mm512_srli_epi16(both, 4), values);
}

static inline __m512i nibble_values() {
    alignas(64) static const bf16 table[32] = {
        0x0000, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0, 0x4100, 0x4110, 0x4120,
        0x4130, 0x4140, 0x4150, 0x4160, 0x4170, 0x0000, 0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0,
        0x40c0, 0x40e0, 0x4100, 0x4110, 0x4120, 0x4130, 0x4140, 0x4150, 0x4160, 0x4170};
    return _mm512_load_si512(table);
}

// y += scale * (sum of x q) + minimum * (sum of x), for one group.
static inline __m512 apply_group(__m512 y, __m512 sum, __m512 scale, __m512 minimum, float total) {
    y = _mm512_fmadd_ps(scale, sum, y);
    return _mm512_fmadd_ps(minimum, _mm512_set1_ps(total), y);
}

static inline void read_scales(const uint8_t* group, __m512* scale, __m512* minimum) {
    for (int part = 0; part < REGISTERS; ++part) {
        scale[part] = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)(group + part * 32)));
        minimum[part] = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)(group + 2 * PANEL + part * 32)));
    }
}

// Four rows keep both their sums in registers, so unpacked weights are never stored: unpacking them again for
// the next four rows is cheaper (measured 1.5 times) than writing them down once and reading them twice.
constexpr int FEW = 4;

template <int ROWS>
static inline void few_int4(const bf16* x, int in, const uint8_t* w, const float* totals, float* y, int stride) {
    const __m512i table = nibble_values();
    const int groups = in / GROUP;
    __m512 out[ROWS][REGISTERS];
    for (int row = 0; row < ROWS; ++row)
        for (int part = 0; part < REGISTERS; ++part) out[row][part] = _mm512_setzero_ps();
    for (int group = 0; group < groups; ++group, w += GROUP_BYTES, x += GROUP) {
        for (int offset = 0; offset < GROUP_BYTES; offset += 64)
            _mm_prefetch((const char*)(w + 4 * GROUP_BYTES + offset), _MM_HINT_T0);
        __m512 sum[ROWS][REGISTERS];
        for (int row = 0; row < ROWS; ++row)
            for (int part = 0; part < REGISTERS; ++part) sum[row][part] = _mm512_setzero_ps();
        const uint8_t* nibbles = w + 4 * PANEL;
        for (int k = 0; k < GROUP; k += 4)
#pragma GCC unroll 3
            for (int part = 0; part < REGISTERS; ++part, nibbles += 32) {
                __m512bh low, high;
                unpack(nibbles, table, low, high);
#pragma GCC unroll 4
                for (int row = 0; row < ROWS; ++row) {
                    const bf16* at = x + (size_t)row * in + k;
                    sum[row][part] = _mm512_dpbf16_ps(sum[row][part], low, broadcast_pair(at));
                    sum[row][part] = _mm512_dpbf16_ps(sum[row][part], high, broadcast_pair(at + 2));
                }
            }
        __m512 scale[REGISTERS], minimum[REGISTERS];
        read_scales(w, scale, minimum);
        for (int row = 0; row < ROWS; ++row)
            for (int part = 0; part < REGISTERS; ++part)
                out[row][part] = apply_group(out[row][part], sum[row][part], scale[part], minimum[part],
                                             totals[(size_t)row * groups + group]);
    }
    for (int row = 0; row < ROWS; ++row)
        for (int part = 0; part < REGISTERS; ++part)
            _mm512_storeu_ps(y + (size_t)row * stride + part * LANES, out[row][part]);
}

// ---- any number of rows

static void panel_int4(const bf16* x, int rows, const Linear& linear, const uint8_t* w, const float* totals, float* y,
                       int stride) {
    for (int row = 0; row < rows; row += FEW) {
        const int count = rows - row < FEW ? rows - row : FEW;
#define FEW_OF(n)                                                                                        \
    few_int4<n>(x + (size_t)row * linear.in, linear.in, w, totals + (size_t)row * (linear.in / GROUP),   \
                y + (size_t)row * stride, stride)
        switch (count) {
            case 1: FEW_OF(1); break;
            case 2: FEW_OF(2); break;
            case 3: FEW_OF(3); break;
            default: FEW_OF(4); break;
        }
#undef FEW_OF
    }
}

static void panel_any_bf16(const bf16* x, int rows, const Linear& linear, const bf16* w, float* y, int stride) {
    for (int row = 0; row < rows; row += BLOCK) {
        const int count = rows - row < BLOCK ? rows - row : BLOCK;
#define PANEL_OF(n) panel_bf16<n>(x + (size_t)row * linear.in, linear.in, w, y + (size_t)row * stride, stride)
        switch (count) {
            case 1: PANEL_OF(1); break;
            case 2: PANEL_OF(2); break;
            case 3: PANEL_OF(3); break;
            case 4: PANEL_OF(4); break;
            case 5: PANEL_OF(5); break;
            case 6: PANEL_OF(6); break;
            case 7: PANEL_OF(7); break;
            default: PANEL_OF(8); break;
        }
#undef PANEL_OF
    }
}

static inline int padded(int out) { return (out + PANEL - 1) / PANEL * PANEL; }

// totals [rows][in / 32]: the sum of x over each group, which the minima are multiplied by.
static void sum_groups(const bf16* x, int rows, int in, float* totals) {
    const __m512bh ones = (__m512bh)_mm512_set1_epi16(0x3f80);
    for (int64_t at = 0; at < (int64_t)rows * in; at += GROUP)
        totals[at / GROUP] = _mm512_reduce_add_ps(_mm512_dpbf16_ps(_mm512_setzero_ps(), load_pairs(x + at), ones));
}

// y [rows][padded(out)] = x [rows][in] W^T + bias. `totals` is room for [rows][in / 32] numbers.
static void multiply(const Linear& linear, const bf16* x, int rows, float* y, float* totals, int threads) {
    const int stride = padded(linear.out), panels = stride / PANEL;
    if (linear.kind == INT4) sum_groups(x, rows, linear.in, totals);
    const size_t bytes = linear.kind == INT4 ? (size_t)(linear.in / GROUP) * GROUP_BYTES : (size_t)linear.in * PANEL * 2;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
    for (int panel = 0; panel < panels; ++panel) {
        const uint8_t* w = linear.packed + panel * bytes;
        float* out = y + panel * PANEL;
        if (linear.kind == INT4)
            panel_int4(x, rows, linear, w, totals, out, stride);
        else
            panel_any_bf16(x, rows, linear, (const bf16*)w, out, stride);
        if (linear.bias != nullptr)
            for (int row = 0; row < rows; ++row)
                for (int part = 0; part < REGISTERS; ++part) {
                    float* at = out + (size_t)row * stride + part * LANES;
                    const __m512 bias = _mm512_loadu_ps(linear.bias + panel * PANEL + part * LANES);
                    _mm512_storeu_ps(at, _mm512_add_ps(_mm512_loadu_ps(at), bias));
                }
    }
}
