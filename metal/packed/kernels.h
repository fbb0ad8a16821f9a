/* All that is compiled once for each kind of processor. */
#include "vectors.h"

#include "product.h"
#include "scan.h"
#include "layer.h"

const kernels_t KERNELS = {
    .name = KIND,
    .most = MOST,
    .arrange = arrange,
#if WORDS
    .left_over = left_over,
#endif
    .multiply = multiply,
    .statistics = statistics,
    .bins = bins,
    .norm = norm,
    .turn = turn,
    .gate = gate_by,
    .soften = soften,
    .dots = dots,
    .mix = mix,
    .exponential = exponential,
};
