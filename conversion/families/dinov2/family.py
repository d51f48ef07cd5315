"""DINOv2, plain and with registers, as backbone and as 1-layer ImageNet classifier."""

from conversion.families.base import Family
from conversion.families.dinov2.capture import EXACT, list_stages
from conversion.families.dinov2.config import (
    BESIDE_CONFIG,
    RETURNED,
    Dinov2Spec,
    build_config,
    complete,
    read_config,
)
from conversion.families.dinov2.deviations import LEDGER
from conversion.families.dinov2.external import HUB_REPOSITORY, build_external
from conversion.families.dinov2.external_timm import build_timm
from conversion.families.dinov2.key_map import DROPPED, select_key_map
from conversion.families.dinov2.original import Dinov2, bake_image_size
from conversion.families.dinov2.recognition import is_dinov2, list_open, note_settings, recognise_spec
from conversion.families.dinov2.settings import SETTINGS
from conversion.families.dinov2.timm import translate
from conversion.families.heads import LINEAR_HEAD
from conversion.families.preprocessing import ResizeAndCrop

FAMILY = Family(
    name="dinov2",
    model_types=("dinov2", "dinov2_with_registers"),
    matches=is_dinov2,
    build_spec=Dinov2Spec,
    settings=SETTINGS,
    recognise_spec=recognise_spec,
    list_open=list_open,
    note_settings=note_settings,
    build_config=build_config,
    read_config=read_config,
    beside_config=BESIDE_CONFIG,
    select_key_map=select_key_map,
    dropped=DROPPED,
    bake_image_size=bake_image_size,
    complete=complete,
    filled_with_ones=("*.gamma",),
    returned=RETURNED,
    head=LINEAR_HEAD,
    images=ResizeAndCrop(official_crop=224),  # make_classification_eval_transform in dinov2/data/transforms.py
    build_original=Dinov2,
    list_stages=list_stages,
    exact=EXACT,
    ledger=LEDGER,
    build_external=build_external,
    hub_repository=HUB_REPOSITORY,
    translate=translate,
    build_timm=build_timm,
)
