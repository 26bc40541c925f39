// Word 0 of Philox4x32-10 (https://doi.org/10.1145/2063384.2063405) at the counters (position, id, 0, 0): what
// the pinned sampler's noise is made of. `protocol/sampler.py` is the specification.

#include <immintrin.h>

#include <cstdint>

namespace {

constexpr int EIGHT = 8;
constexpr int ROUNDS = 10;

// Eight ids at once, every word in a lane of 64 bits whose upper half is zero.
__m512i word0(__m512i ids, uint32_t position, uint32_t key0, uint32_t key1) {
    const __m512i low = _mm512_set1_epi64(0xFFFFFFFF);
    __m512i c0 = _mm512_set1_epi64(position), c1 = ids, c2 = _mm512_setzero_si512(), c3 = c2;
    for (int round = 0; round < ROUNDS; ++round, key0 += 0x9E3779B9, key1 += 0xBB67AE85) {
        const __m512i first = _mm512_mul_epu32(c0, _mm512_set1_epi64(0xD2511F53));
        const __m512i second = _mm512_mul_epu32(c2, _mm512_set1_epi64(0xCD9E8D57));
        c0 = _mm512_xor_epi64(_mm512_xor_epi64(_mm512_srli_epi64(second, 32), c1), _mm512_set1_epi64(key0));
        c2 = _mm512_xor_epi64(_mm512_xor_epi64(_mm512_srli_epi64(first, 32), c3), _mm512_set1_epi64(key1));
        c1 = _mm512_and_epi64(second, low);
        c3 = _mm512_and_epi64(first, low);
    }
    return c0;
}

}  // namespace

// words [count] of ids [count], which are below 2^32.
extern "C" void commonlore_philox(uint32_t key0, uint32_t key1, uint32_t position, const int64_t* ids, int64_t count,
                                  uint32_t* words) {
    for (int64_t at = 0; at < count; at += EIGHT) {
        const __mmask8 present = count - at < EIGHT ? (__mmask8)((1 << (count - at)) - 1) : 0xff;
        const __m512i found = word0(_mm512_maskz_loadu_epi64(present, ids + at), position, key0, key1);
        _mm512_mask_cvtepi64_storeu_epi32(words + at, present, found);
    }
}
