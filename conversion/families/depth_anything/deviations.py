"""Depth Anything: known deviations of transformers."""

from dataclasses import replace
from typing import Any

from conversion.families.depth_anything.preprocessing import choose_size
from conversion.families.depth_architecture.deviations import FEATURE_INDICES, POSITION_EMBEDDINGS
from conversion.families.deviations import IMAGE_PROCESSOR_BACKEND, SOFTMAX_OF_4
from conversion.parity.deviations import Deviation


def _is_resized_otherwise(spec: Any, size: tuple[int, int], input_size: int) -> bool:
    sizes = (choose_size(size[::-1], input_size, spec.patch_size, as_processor=flag) for flag in (False, True))
    return len(set(sizes)) > 1


RESIZE = Deviation(
    name="resize-by-smaller-change",
    where="images of which one side has to grow by more than the other has to shrink: those smaller than the size of "
    "the image processor, 518 pixels by default",
    cause="the image processor brings the side whose length changes less to its size, the original both to at least "
    "that",
    size="a photo of 300 x 200 becomes 518 x 350, in the original 784 x 518; depth of one of 451 x 300 was off by "
    "35 %, with random weights",
    counterfactual="the original transform with the size that the image processor chooses",
    remedy="resize such an image beforehand, so that its shorter side has as many pixels as the image processor's size",
    applies_to_image=_is_resized_otherwise,
)

KERNEL = Deviation(
    name="resize-kernel",
    where="every image that is not of the model's size already",
    cause="the image processor resizes whole numbers with Pillow's bicubic kernel, the original fractions with that of "
    "OpenCV",
    size="0.007 on average on the normalised pixels of the test photo at 640 x 480, 0.1 at most",
    counterfactual="the original transform with Pillow's resize",
    remedy="resize beforehand, and load the image processor with do_resize=False, do_rescale=False: "
    "torch.nn.functional.interpolate(mode='bicubic') of the pixels divided by 255 is OpenCV's resize",
    applies_to_image=lambda *_: True,
)

BACKEND = replace(
    IMAGE_PROCESSOR_BACKEND,
    cause="it resizes with torchvision's kernel on tensors, its PIL backend with Pillow's, of which resize-kernel "
    "tells how far it is off",
)

DEPTH_RESIZE = Deviation(
    name="depth-resize",
    where="the depth at the size of the photo, by post_process_depth_estimation and by pipelines",
    cause="it is resized with a bicubic kernel and align_corners=False, in the original bilinearly, with "
    "align_corners=True",
    size="0.5 of 8.8 on the recorded relative model, 1.7 of 18 and 4.6 of 77 on metric ones",
    counterfactual="the original's depth resized as transformers does",
    after_model=True,
    remedy="resize the model's predicted_depth as the original does: torch.nn.functional.interpolate(predicted_depth"
    "[:, None], (height, width), mode='bilinear', align_corners=True)",
)

FEATURE_LAYOUT = Deviation(
    name="feature-memory-layout",
    where="batches of more than one image",
    cause="the head lays the maps of tokens out one channel after the other; the original gets views, in which "
    "channels are neighbours in memory, and torch's convolutions then sum in another order",
    size="an RMS of 1.4e-6 on the depth of a ViT-S, less than the original's own rounding error of 1.7e-6",
    counterfactual="the original with maps that are laid out",
    remedy="none needed: it is rounding; one image at a time agrees bit for bit",
    original_attributes={"contiguous_features": True},
    is_rounding=True,
    applies=lambda _spec, shape, *_: shape[0] > 1,
)

METRIC = Deviation(
    name="metric-default",
    where="metric models whose config does not say so",
    cause="depth_estimation_type is 'relative' by default, whose head ends in a ReLU and not in a sigmoid; and "
    "max_depth, which the result is multiplied with, is 1",
    size="18 of 19 metres without max_depth, 46 of 77 as a relative model",
    counterfactual="the original with that end and that factor",
    remedy="write depth_estimation_type='metric' and max_depth; a relative model's max_depth is 1",
    avoided=True,
    in_config=lambda config, spec: (
        (config.depth_estimation_type == "metric") != bool(spec.max_depth) or config.max_depth != (spec.max_depth or 1)
    ),
)

FEATURE_NORM = Deviation(
    name="features-without-norm",
    where="models whose backbone's config says apply_layernorm=False",
    cause="the original's head sees the features behind the backbone's final norm",
    size="7.6 of 9.3 on the recorded relative model",
    counterfactual="the original without that norm",
    remedy="write apply_layernorm=True into the backbone's config",
    avoided=True,
    in_config=lambda config, _spec: not config.backbone_config.apply_layernorm,
)

LEDGER = (
    POSITION_EMBEDDINGS,
    RESIZE,
    KERNEL,
    DEPTH_RESIZE,
    FEATURE_LAYOUT,
    BACKEND,
    METRIC,
    FEATURE_INDICES,
    FEATURE_NORM,
    SOFTMAX_OF_4,
)
