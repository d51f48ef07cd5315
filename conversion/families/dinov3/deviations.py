"""DINOv3: known deviations of transformers."""

from conversion.families.deviations import SOFTMAX_OF_4
from conversion.parity.deviations import Deviation

PERIODS = Deviation(
    name="rope-periods-rounded",
    where="every model",
    cause="the checkpoint stores the periods of rotary positions, in the official ones rounded to bfloat16 "
    "(rope_embed.periods). transformers ignores them, and computes frequencies from rope_theta in float32",
    size="with rounded periods, at the size of ViT-S, 8e-4 on the CLS token and 2e-3 on patches, a relative RMS of "
    "2.3e-4; with others 2e-6",
    counterfactual="the original with the frequencies that transformers computes",
    remedy="no key on disk can carry the periods; set the frequencies after loading: "
    "model.rope_embeddings.inv_freq.copy_(1 / periods.double()), with rope_embed.periods of left_out.safetensors",
    original_attributes={"computes_frequencies": True},
    applies=lambda *_: True,
)

RESCALE = Deviation(
    name="rescale-before-resize",
    where="every image that is resized",
    cause="the image processor brings values to a range of 0 to 1 before it resizes; the original resizes whole "
    "numbers, which rounds",
    size="up to one grey level, before normalisation, on nearly all values",
    counterfactual="the original transform that rescales first",
    remedy="resize the image beforehand with torchvision's v2.Resize on whole numbers, and load the image processor "
    "with do_resize=False",
    applies_to_image=lambda _spec, size, input_size: size != (input_size, input_size),
)

LEDGER = (PERIODS, RESCALE, SOFTMAX_OF_4)
