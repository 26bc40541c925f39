// A validated adapter file's factors, moved to where `lora.h` reads them.
//
// Rules of this file:
// - The caller has checked names, shapes and numbers; places are bytes from the file's start.
// - The slot's memory is zero before: what an adapter does not have, and padding, is not written.
#pragma once

#include "lora.h"

struct Packing {
    const uint8_t* file;
    const int64_t* places;               // [layers][TARGETS][A, B], -1 where it has none
    const int32_t *inputs, *outputs;     // [TARGETS]
    const int64_t* offsets;              // [TARGETS], into a layer
    bf16* slot;
    int64_t layer_size;
    int32_t layers, rank, bucket;
    float scale;
};

// A [rank][in] to [rank / 8][in / 32][8][32].
static void pack_down(const uint8_t* from, int in, int rank, bf16* to) {
    for (int row = 0; row < rank; ++row)
        for (int k = 0; k < in; k += PAIRS, from += 2 * PAIRS) {
            const size_t block = (size_t)(row / 8) * (in / PAIRS) + k / PAIRS;
            std::memcpy(to + (block * 8 + row % 8) * PAIRS, from, 2 * PAIRS);
        }
}

// 8 bf16 numbers times scale.
static inline __m128i scaled8(__m128i from, __m256 scale) {
    const __m256 wide = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(from), 16));
    return (__m128i)_mm256_cvtneps_pbh(_mm256_mul_ps(wide, scale));
}

// B [out][rank] to [out / 16][bucket / 2][16][2], times scale.
static void pack_up(const uint8_t* from, int out, int rank, int bucket, float scale, bf16* to) {
    const __m256 factor = _mm256_set1_ps(scale);
    for (int column = 0; column < out; ++column) {
        bf16* block = to + (size_t)(column / LANES) * bucket * LANES + 2 * (column % LANES);
        for (int row = 0; row < rank; row += 8) {
            alignas(16) bf16 numbers[8] = {};
            const int count = rank - row < 8 ? rank - row : 8;
            std::memcpy(numbers, from, 2 * count);
            from += 2 * count;
            _mm_store_si128((__m128i*)numbers, scaled8(_mm_load_si128((const __m128i*)numbers), factor));
            for (int pair = 0; pair < count; pair += 2)
                std::memcpy(block + (size_t)(row + pair) * LANES, numbers + pair, 4);
        }
    }
}

static void pack(const Packing& p) {
    for (int layer = 0; layer < p.layers; ++layer)
        for (int target = 0; target < TARGETS; ++target) {
            const int64_t* place = p.places + ((size_t)layer * TARGETS + target) * 2;
            if (place[0] < 0) continue;
            bf16* a = p.slot + layer * p.layer_size + p.offsets[target];
            pack_down(p.file + place[0], p.inputs[target], p.rank, a);
            pack_up(p.file + place[1], p.outputs[target], p.rank, p.bucket, p.scale,
                    a + (size_t)p.bucket * p.inputs[target]);
        }
}
