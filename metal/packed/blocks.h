/* How the codes of each layout come out of a block, a word of 16 rows after the other, and what they are scaled and
 * shifted by: to be multiplied and summed, or put aside. Whoever includes this says what becomes of them: ADD, SCALED,
 * SHIFTED, how a sum BEGINs, the arguments OF_BLOCKS, and how the functions are NAMED. */

/* Q4_1, or without an offset Q4_0, whose codes are 8 more than they say. */
INLINE void NAMED(q4)(TEMPLATE, const int offset, OF_BLOCKS) {
    BEGIN(sum, 0)
#pragma unroll
    for (int c = 0; c < 4; c++) {
        I w[P];
        EVERY(p) w[p] = WORD(c, p), FETCH(c, p);
        ADD_NIBBLES(sum, w, c, 1)
    }
    SCALED(total, sum, 0, wide(scales + p * apart, FLOAT16))
    SHIFTED(total, 0, offset ? wide(scales + p * apart + 32, FLOAT16) : -8 * wide(scales + p * apart, FLOAT16))
}

/* Q5_1, or without an offset Q5_0, whose codes are 16 more than they say. The fifth bits of four codes are a bit of the
 * last word's four bytes. */
INLINE void NAMED(q5)(TEMPLATE, const int offset, OF_BLOCKS) {
    BEGIN(sum, 0)
    EVERY(p) FETCH(4, p);
#pragma unroll
    for (int half = 0; half < 2; half++)
#pragma unroll
        for (int c = 0; c < 4; c++) {
            I w[P];
            EVERY(p) {
                I fifth = half ? (I)((U)WORD(4, p) >> c) : WORD(4, p) << (4 - c);
                w[p] = ((WORD(c, p) >> 4 * half) & 0x0f0f0f0f) | (fifth & 0x10101010);
                if (!half)
                    FETCH(c, p);
            }
            ADD_BYTES(sum, w, 0, 4 * half + c)
        }
    SCALED(total, sum, 0, wide(scales + p * apart, FLOAT16))
    SHIFTED(total, 0, offset ? wide(scales + p * apart + 32, FLOAT16) : -16 * wide(scales + p * apart, FLOAT16))
}

INLINE void NAMED(q8)(TEMPLATE, OF_BLOCKS) {
    BEGIN(sum, 0)
#pragma unroll
    for (int c = 0; c < 8; c++) {
        I w[P];
        EVERY(p) w[p] = WORD(c, p), FETCH(c, p);
        ADD_BYTES(sum, w, 1, c)
    }
    SCALED(total, sum, 0, wide(scales + p * apart, FLOAT16))
}

/* Q4_K, and with a fifth bit Q5_K: in four runs of eight words one group has the low bits, the next the high ones. */
INLINE void NAMED(k45)(TEMPLATE, const int fifth, OF_BLOCKS) {
#pragma nounroll
    for (int t = 0; t < 4; t++)
#pragma nounroll
        for (int odd = 0; odd < 2; odd++) {
            int g = 2 * t + odd;
            BEGIN(sum, g)
#pragma unroll
            for (int c = 0; c < 8; c++) {
                I w[P];
                EVERY(p) w[p] = (WORD(8 * t + c, p) >> 4 * odd) & 0x0f0f0f0f;
                if (!odd)
                    EVERY(p) FETCH(8 * t + c, p);
                if (fifth)
                    EVERY(p) w[p] |= ((WORD(32 + c, p) >> g) & 0x01010101) << 4;
                ADD_BYTES(sum, w, 0, 8 * g + c)
            }
            SCALED(total, sum, g, wide(K(p), FLOAT16) * FLOATS(LOAD(B, K(p) + 64 + 16 * g)))
            SHIFTED(total, g, -wide(K(p) + 32, FLOAT16) * FLOATS(LOAD(B, K(p) + 192 + 16 * g)))
        }
}

/* In two halves of 128 columns 16 words of low bits, those of two quarters under those of the other two, and 8 words of
 * high ones, of which each quarter has a pair. */
INLINE void NAMED(k6)(TEMPLATE, OF_BLOCKS) {
#pragma nounroll
    for (int h = 0; h < 2; h++)
#pragma nounroll
        for (int part = 0; part < 4; part++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                BEGIN(sum, 0)
#pragma unroll
                for (int c = 4 * half; c < 4 * half + 4; c++) {
                    I w[P];
                    EVERY(p) {
                        I lower = (WORD(16 * h + 8 * (part & 1) + c, p) >> 4 * (part >> 1)) & 0x0f0f0f0f;
                        I upper = (WORD(32 + 8 * h + c, p) >> 2 * part) & 0x03030303;
                        w[p] = (I)((B64)(lower | upper << 4) - 32);
                        if (part < 2)
                            FETCH(16 * h + 8 * part + c, p);
                        else if (part == 2)
                            FETCH(32 + 8 * h + c, p);
                    }
                    ADD_BYTES(sum, w, 1, 32 * h + 8 * part + c)
                }
                SCALED(total, sum, 4 * h + part,
                       wide(K(p), FLOAT16) * FLOATS(LOAD(S, K(p) + 32 + 16 * (8 * h + 2 * part + half))))
            }
}
