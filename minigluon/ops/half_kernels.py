"""An operator is given a kernel of its own by one decorator; the first is softmax, which should cost two walks over memory."""

# Written from chapters/93_kernels.ipynb: edit the chapter, then run `minigluon export`.

import minigluon.ops.random as draws
from minigluon.kernels import in_float32
from minigluon.ops.convolution import (
    Convolution,
    Deconvolution,
    conv_data,
    conv_weight,
    deconv_data,
    deconv_weight,
)
from minigluon.ops.csr import contrib_SparseEmbedding, csr_dot, csr_pick, csr_undot
from minigluon.ops.ctc import CTCLoss
from minigluon.ops.deformable import (
    contrib_DeformableConvolution,
    contrib_ModulatedDeformableConvolution,
    near_index,
)
from minigluon.ops.detection import (
    BilinearSampler,
    GridGenerator,
    SpatialTransformer,
    add_at_index,
    at_index,
    contrib_box_encode,
    neighbour_index,
    raster_moments,
)
from minigluon.ops.elementwise import modulo
from minigluon.ops.factorizations import triangle
from minigluon.ops.indexing import where
from minigluon.ops.norms import cumsum, nanprod
from minigluon.ops.ordering import _histogram
from minigluon.ops.pooling import UpSampling
from minigluon.ops.regions import contrib_MultiProposal, contrib_Proposal, contrib_PSROIPooling
from minigluon.ops.sequences import SequenceMask

# --- Arrays as kernels want them ------------------------------------------------------------------

for op in (
    Convolution,
    Deconvolution,
    conv_data,
    conv_weight,
    deconv_data,
    deconv_weight,
    contrib_SparseEmbedding,
    csr_dot,
    csr_pick,
    csr_undot,
    CTCLoss,
    contrib_DeformableConvolution,
    contrib_ModulatedDeformableConvolution,
    near_index,
    BilinearSampler,
    GridGenerator,
    SpatialTransformer,
    add_at_index,
    at_index,
    contrib_box_encode,
    neighbour_index,
    raster_moments,
    modulo,
    triangle,
    where,
    cumsum,
    nanprod,
    _histogram,
    UpSampling,
    draws.chosen,
    draws.unchosen,
    contrib_MultiProposal,
    contrib_Proposal,
    contrib_PSROIPooling,
    SequenceMask,
):
    in_float32(op)
