"""DINOv2, plain and with registers, as backbone and as 1-layer ImageNet classifier."""

from conversion.families.base import Family
from conversion.families.dinov2.capture import EXACT, find_deviation, list_stages
from conversion.families.dinov2.config import (
    ALIKE,
    ALIKE_FIELDS,
    BESIDE_CONFIG,
    SETTINGS,
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
from conversion.families.dinov2.preprocessing import (
    build_image_processor,
    build_transform,
    choose_crop,
    choose_input_size,
    find_image_deviation,
)
from conversion.families.dinov2.recognition import is_dinov2, list_open, note_settings, recognise_spec
from conversion.families.dinov2.timm import translate
from conversion.families.images import list_unused

FAMILY = Family(
    name="dinov2",
    model_types=("dinov2", "dinov2_with_registers"),
    dropped=DROPPED,
    translate=translate,
    matches=is_dinov2,
    build_spec=Dinov2Spec,
    settings=SETTINGS,
    recognise_spec=recognise_spec,
    list_open=list_open,
    build_config=build_config,
    read_config=read_config,
    select_key_map=select_key_map,
    derive=lambda _spec: {},
    build_original=Dinov2,
    build_external=build_external,
    hub_repository=HUB_REPOSITORY,
    entry=lambda _spec: "",
    pack=lambda _spec, state_dict: state_dict,
    distributions={},
    bake_image_size=bake_image_size,
    choose_input_size=choose_input_size,
    build_image_processor=build_image_processor,
    build_transform=build_transform,
    find_image_deviation=find_image_deviation,
    list_stages=list_stages,
    exact=EXACT,
    find_deviation=find_deviation,
    ledger=LEDGER,
    note_settings=note_settings,
    beside_config=BESIDE_CONFIG,
    list_other_sizes=lambda spec: (choose_crop(spec),),
    alike=ALIKE,
    alike_fields=ALIKE_FIELDS,
    build_timm=build_timm,
    complete=complete,
    filled_with_ones=("*.gamma",),
    list_unused=lambda spec: list_unused(spec.num_channels),
)
