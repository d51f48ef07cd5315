"""BEiT's architecture: known deviations of transformers and of its official converters.

Most lie in defaults of the config, or in names; what is written here avoids them.
"""

from conversion.families.deviations import IMAGE_PROCESSOR_BACKEND
from conversion.parity.deviations import Deviation

LAYER_NORM_EPS = Deviation(
    name="layer-norm-eps-default",
    where="every model whose config does not say layer_norm_eps, the official converter's among them",
    cause="the config's default is 1e-12, the original's norms have 1e-6",
    size="2e-5 to 3e-4 on outputs",
    counterfactual="the original with an eps of 1e-12",
    remedy="write layer_norm_eps=1e-6",
    avoided=True,
    in_config=lambda config, _spec: config.layer_norm_eps == 1e-12,
)

MASK_TOKEN = Deviation(
    name="mask-token-default",
    where="pretrained models whose config does not say use_mask_token, the official converter's among them",
    cause="by default the model is built without a mask token, and the checkpoint's is ignored",
    size="the mask token is lost; a masked input raises an error",
    counterfactual="the original without a mask token",
    remedy="write use_mask_token=True where the checkpoint has one",
    avoided=True,
    in_config=lambda config, spec: spec.mask_token and not config.use_mask_token,
)

POSITION_BIAS = Deviation(
    name="position-bias-by-name",
    where="models with other tables of relative positions than the official one of their kind",
    cause="by default none is built; the official converter asks for a shared table in pretrained models and for one "
    "per block in fine-tuned ones, whatever the checkpoint has, and loads with strict=False",
    size="of a tiny model's last hidden state, 1.7 without the shared table, 1.6 without those of the blocks",
    counterfactual="the original without those tables",
    remedy="write use_shared_relative_position_bias and use_relative_position_bias as the keys say, both if both",
    avoided=True,
    in_config=lambda config, spec: (
        (spec.shared_position_bias and not config.use_shared_relative_position_bias)
        or (spec.block_position_bias and not config.use_relative_position_bias)
    ),
)

ABSOLUTE_POSITIONS = Deviation(
    name="absolute-positions-default",
    where="models with absolute position embeddings",
    cause="by default none are built, the official converter never asks for them, and loads with strict=False",
    size="4 on a tiny model's last hidden state",
    counterfactual="the original without position embeddings",
    remedy="write use_absolute_position_embeddings=True where the checkpoint has them",
    avoided=True,
    in_config=lambda config, spec: spec.absolute_positions and not config.use_absolute_position_embeddings,
)

OUT_INDICES = Deviation(
    name="out-indices-shift",
    where="segmentation models whose config has the original's out_indices",
    cause="the output of block i is taken for a feature where out_indices has i + 2",
    size="0.05 to 0.10 on features with recorded weights, 2 with synthetic ones: they are other blocks'",
    counterfactual="the original with the features of two blocks earlier",
    remedy="write out_indices with 2 added",
    avoided=True,
    in_config=lambda config, spec: (
        spec.task == "semantic-segmentation" and tuple(config.out_indices) == spec.out_indices
    ),
)

FEATURE_LAYOUT = Deviation(
    name="feature-memory-layout",
    where="segmentation models, batches of more than one image",
    cause="the feature pyramid gets views of the tokens, in which channels are neighbours in memory; torch's "
    "convolutions then sum in another order. The original lays each channel out as a map first",
    size="RMS 1.6e-6 on logits of a base model, 2.3 times the original's own rounding error",
    counterfactual="the original without laying the features out",
    remedy="none needed: it is rounding; with eager attention, one image at a time agrees bit for bit",
    original_attributes={"contiguous_features": False},
    is_rounding=True,
    applies=lambda spec, shape, *_: spec.task == "semantic-segmentation" and shape[0] > 1,
)

SQUARE_RESIZE = Deviation(
    name="square-resize",
    where="the image processor, at every image that is not square, or at an input size below 384",
    cause="it resizes to a square, as in the official models on the Hub; the original evaluates with the middle of the "
    "picture, cut from a short edge of 8/7 the size (of the size itself from 384 on)",
    size="another framing",
    counterfactual="the original transform with a resize to the square",
    remedy="resize and cut beforehand, and load the image processor with do_resize=False; or make a "
    "transformers.BitImageProcessor with the same mean and standard deviation, size={'shortest_edge': E} and "
    "crop_size=N, which does both: E is that short edge, N the side of the square",
    applies_to_image=lambda spec, size, _input_size: spec.crop_pct < 1 or size[0] != size[1],
)

LEDGER = (
    LAYER_NORM_EPS,
    MASK_TOKEN,
    POSITION_BIAS,
    ABSOLUTE_POSITIONS,
    OUT_INDICES,
    FEATURE_LAYOUT,
    IMAGE_PROCESSOR_BACKEND,
    SQUARE_RESIZE,
)
