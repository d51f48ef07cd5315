"""DINOv2 with its authors' depth head: known deviations of transformers."""

from conversion.families.depth_architecture.deviations import FEATURE_INDICES, POSITION_EMBEDDINGS
from conversion.families.deviations import SOFTMAX_OF_4
from conversion.parity.deviations import Deviation

MIN_DEPTH = Deviation(
    name="min-depth-offset",
    where="every image",
    cause="the original adds its least depth, 0.001 metres, to what its head gives",
    size="0.001 metres",
    counterfactual="the original without that",
    remedy="add model.config.min_depth to the depth: the code for this model does",
    original_attributes={"min_depth": 0.0},
    applies=lambda *_: True,
)

CLAMP = Deviation(
    name="depth-clamp-and-resize",
    where="every image",
    cause="the original keeps depth within its range (0.001 to 10 metres, or 80) and brings it to the size of the "
    "image; transformers' model returns what its head gives, which is larger than the image",
    size="2.8 to 4.6 metres on the recorded models of 10 metres, and another size",
    counterfactual="the output of the original's head",
    remedy="do both with transformers' output: the code for this model does",
    after_model=True,
)

PADDING = Deviation(
    name="patch-padding",
    where="images whose sides are no multiples of 14, given to the model without its image processor",
    cause="the original puts zeros around them; transformers' model cuts off what is over. Its image processor puts "
    "the zeros, as it is written here",
    size="7.6 of 10 metres on a recorded model, and another size",
    counterfactual="the original without the zeros",
    remedy="write do_pad=True and size_divisor=14; give the model what the image processor makes",
    avoided=True,
)

HEAD_DEFAULTS = Deviation(
    name="dpt-head-defaults",
    where="models whose config does not say add_projection and use_bias_in_fusion_residual",
    cause="by default transformers' head has no projection, and its fusion layers have biases",
    size="12 of 13 metres without the projection, on a recorded model",
    counterfactual="the original without its projection",
    remedy="write add_projection=True and use_bias_in_fusion_residual=False",
    avoided=True,
    in_config=lambda config, _spec: not config.add_projection or config.use_bias_in_fusion_residual is not False,
)

READOUT = Deviation(
    name="readout-type",
    where="models whose config says another readout_type than 'project'",
    cause="the original joins every patch with the CLS token",
    size="12 of 13 metres where it is ignored, on a recorded model",
    counterfactual="the original without what the CLS token adds",
    remedy="write readout_type='project'",
    avoided=True,
    in_config=lambda config, _spec: config.readout_type != "project",
)

FEATURE_NORM = Deviation(
    name="features-with-norm",
    where="models whose backbone's config does not say apply_layernorm=False",
    cause="by default the features go through the backbone's final norm; the original's head sees them before it",
    size="5.0 of 13 metres on a recorded model",
    counterfactual="the original with that norm",
    remedy="write apply_layernorm=False into the backbone's config",
    avoided=True,
    in_config=lambda config, _spec: config.backbone_config.apply_layernorm,
)

LEDGER = (
    MIN_DEPTH,
    CLAMP,
    POSITION_EMBEDDINGS,
    PADDING,
    HEAD_DEFAULTS,
    READOUT,
    FEATURE_INDICES,
    FEATURE_NORM,
    SOFTMAX_OF_4,
)
