"""DINOv2: known deviations of transformers."""

from conversion.families.deviations import CENTER_CROP, IMAGE_PROCESSOR_BACKEND, SOFTMAX_OF_4
from conversion.families.dinov2.config import Dinov2Spec
from conversion.parity.deviations import Deviation

# kind of model to how its class in transformers resamples position embeddings
RESAMPLING = {
    "plain":     {"interpolate_offset": 0.0, "interpolate_antialias": False},
    "registers": {"interpolate_offset": 0.0, "interpolate_antialias": True},
}  # fmt: skip


def _resamples_otherwise(spec: Dinov2Spec, shape: tuple[int, ...], kind: str) -> bool:
    differs = any(getattr(spec, name) != value for name, value in RESAMPLING[kind].items())
    return differs and shape[-2:] != (spec.image_size, spec.image_size)


POSITION_EMBEDDINGS = Deviation(
    name="position-embeddings-offset",
    where="models without registers, at every image size but the native one",
    cause="position embeddings are resized from M patches a side to n. transformers does so by n / M, without "
    "antialias; the official models' code by (n + 0.1) / M, so that to the right and below they lie up to a tenth of a "
    "patch apart; timm's by n / M, with antialias",
    size="at 224, on last hidden states: CLS 3e-3 to 3e-2, patches 5e-2 to 1.5e-1; up to 0.6 on tiny models",
    counterfactual="the original with interpolate_offset=0 and without antialias",
    remedy="bake the original's resampling for one square size with --image-size",
    original_attributes=RESAMPLING["plain"],
    applies=lambda spec, shape, *_: not spec.num_register_tokens and _resamples_otherwise(spec, shape, "plain"),
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
    applies=lambda spec, shape, *_: spec.num_register_tokens > 0 and _resamples_otherwise(spec, shape, "registers"),
)

LEDGER = (POSITION_EMBEDDINGS, POSITION_EMBEDDINGS_OF_REGISTERS, IMAGE_PROCESSOR_BACKEND, CENTER_CROP, SOFTMAX_OF_4)
