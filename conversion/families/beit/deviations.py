"""BEiT: known deviations of transformers, beside those of the architecture."""

from conversion.families.beit_architecture import deviations
from conversion.families.deviations import SOFTMAX_OF_5
from conversion.parity.deviations import Deviation

LAST_FEATURE = Deviation(
    name="last-feature-out-of-reach",
    where="segmentation models that take the last block's output for a feature, as all official ones do",
    cause="the output of block i is taken for a feature where out_indices has i + 2, and the config refuses numbers "
    "above the number of blocks",
    size="a relative RMS of 0.3 on logits of a tiny model",
    counterfactual="the original with the features of the nearest blocks that can be told, the last one's before it",
    remedy="no config on disk can say it; tell the model after loading: "
    "model.config._out_indices = [block + 2 for block in model.config.original_out_indices]",
    original_attributes={"reaches_last_block": False},
    applies=lambda spec, *_: spec.reachable != spec.out_indices,
)

NORMALISATION = Deviation(
    name="version-normalisation",
    where="the default of transformers' image processor, for BEiT v2 and for segmentation models",
    cause="it normalises with a mean and standard deviation of 0.5, as BEiT v1 does; v2 and mmsegmentation have "
    "ImageNet's. Both versions have the same keys and shapes",
    size="0.28 on average on the normalised pixels of the test photo, 1.1 at most",
    counterfactual="the original's images normalised with 0.5",
    remedy="write the mean and standard deviation of the version, which a name, an option or a file beside it tells",
    avoided=True,
)

LEDGER = (*deviations.LEDGER, LAST_FEATURE, SOFTMAX_OF_5, NORMALISATION)
