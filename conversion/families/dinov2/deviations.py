"""DINOv2: known deviations of transformers."""

import torch

from conversion.parity.deviations import IMAGE_PROCESSOR_BACKEND, Deviation

# class of transformers to how it resamples position embeddings
RESAMPLING = {
    "plain":     {"interpolate_offset": 0.0, "interpolate_antialias": False},
    "registers": {"interpolate_offset": 0.0, "interpolate_antialias": True},
}  # fmt: skip

POSITION_EMBEDDINGS = Deviation(
    name="position-embeddings-offset",
    where="models without registers, at every image size but the native one",
    cause="position embeddings are resized from M patches a side to n. The original does so by "
    "(n + 0.1) / M, transformers by n / M: to the right and below they lie up to a tenth of a patch apart",
    size="at 224, on last hidden states: CLS 3e-3 to 3e-2, patches 5e-2 to 1.5e-1; up to 0.6 on tiny models",
    counterfactual="the original with interpolate_offset=0 and without antialias",
    remedy="bake the original's resampling for one square size with --image-size",
    original_attributes=RESAMPLING["plain"],
)

POSITION_EMBEDDINGS_OF_REGISTERS = Deviation(
    name="position-embeddings-antialias",
    where="models with registers that were trained otherwise than the official ones, at every size but the native one",
    cause="position embeddings are resized from M patches a side to n. transformers does so by the factor n / M, with "
    "antialias; the authors' training, by default, by (n + 0.1) / M and without antialias",
    size="on a small model with a native size of 98: CLS 0.06 and patches 1.3 at 56, patches 0.3 at 224",
    counterfactual="the original with interpolate_offset=0 and antialias",
    remedy="bake the original's resampling for one square size with --image-size",
    original_attributes=RESAMPLING["registers"],
)

CENTER_CROP = Deviation(
    name="center-crop-rounding",
    where="images of which the crop leaves over 4n + 3 rows or columns: a quarter of all",
    cause="torchvision rounds half the surplus to the nearest even number, transformers down, with either backend",
    size="the crop is shifted by one pixel",
    counterfactual="the original transform with half the surplus rounded down",
    remedy="nothing where the longer side of the resized image is even; else resize and crop the image beforehand with "
    "torchvision's Resize and CenterCrop, and load the image processor with do_resize=False and do_center_crop=False",
)

SOFTMAX = Deviation(
    name="softmax-in-float32",
    where="transformers 4, eager attention, in float64",
    cause="its softmax is taken in float32, whatever dtype the model has",
    size="1e-7 on outputs, a billion times float64's rounding",
    counterfactual="the original with a softmax in float32",
    remedy="use sdpa, or transformers 5; in float32 and below it makes no model worse",
    original_attributes={"softmax_dtype": torch.float32},
)

LEDGER = (POSITION_EMBEDDINGS, POSITION_EMBEDDINGS_OF_REGISTERS, IMAGE_PROCESSOR_BACKEND, CENTER_CROP, SOFTMAX)
