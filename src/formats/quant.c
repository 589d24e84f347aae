#include "formats/quant.h"

#include "base/check.h"

static const struct quant_info infos[QUANT_TYPE_LIMIT] = {
    [QUANT_F32] = {"F32", 1, 4, true},          [QUANT_F16] = {"F16", 1, 2, true},
    [QUANT_BF16] = {"BF16", 1, 2, true},        [QUANT_F64] = {"F64", 1, 8, false},
    [QUANT_I8] = {"I8", 1, 1, false},           [QUANT_I16] = {"I16", 1, 2, false},
    [QUANT_I32] = {"I32", 1, 4, false},         [QUANT_I64] = {"I64", 1, 8, false},
    [QUANT_Q4_0] = {"Q4_0", 32, 18, true},      [QUANT_Q8_0] = {"Q8_0", 32, 34, true},
    [QUANT_Q2_K] = {"Q2_K", 256, 84, true},     [QUANT_Q3_K] = {"Q3_K", 256, 110, true},
    [QUANT_Q4_K] = {"Q4_K", 256, 144, true},    [QUANT_Q5_K] = {"Q5_K", 256, 176, true},
    [QUANT_Q6_K] = {"Q6_K", 256, 210, true},    [QUANT_IQ2_XXS] = {"IQ2_XXS", 256, 66, true},
    [QUANT_IQ2_XS] = {"IQ2_XS", 256, 74, true}, [QUANT_IQ2_S] = {"IQ2_S", 256, 82, true},
    [QUANT_IQ3_XXS] = {"IQ3_XXS", 256, 98, true}, [QUANT_IQ3_S] = {"IQ3_S", 256, 110, true},
    [QUANT_IQ1_S] = {"IQ1_S", 256, 50, true},   [QUANT_IQ4_NL] = {"IQ4_NL", 32, 18, true},
    [QUANT_IQ4_XS] = {"IQ4_XS", 256, 136, true}, [QUANT_MXFP4] = {"MXFP4", 32, 17, true},
};

const struct quant_info *quant_info(uint32_t type_id)
{
    if (type_id >= QUANT_TYPE_LIMIT || !infos[type_id].name)
        return NULL;
    return &infos[type_id];
}

uint64_t quant_row_bytes(enum quant_type type, int64_t ne0)
{
    const struct quant_info *info = quant_info(type);
    SLUICE_ASSERT(info && ne0 >= 0 && ne0 % info->block_elems == 0);
    return (uint64_t)ne0 / info->block_elems * info->block_bytes;
}
