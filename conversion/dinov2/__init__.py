"""DINOv2, plain and with registers, as backbone and as 1-layer ImageNet classifier."""

from conversion.dinov2.capture import EXACT, capture_points, find_deviation
from conversion.dinov2.config import Dinov2Spec, build_config, is_dinov2, read_config, recognise_spec
from conversion.dinov2.key_map import DROPPED, select_key_map
from conversion.dinov2.original import Dinov2, bake_image_size
from conversion.dinov2.preprocessing import CROP_SIZE, build_image_processor, build_transform, find_image_deviation
from conversion.family import Family

FAMILY = Family(
    name="dinov2",
    model_types=("dinov2", "dinov2_with_registers"),
    dropped=DROPPED,
    matches=is_dinov2,
    build_spec=Dinov2Spec,
    recognise_spec=recognise_spec,
    build_config=build_config,
    read_config=read_config,
    select_key_map=select_key_map,
    build_original=Dinov2,
    bake_image_size=bake_image_size,
    build_image_processor=build_image_processor,
    build_transform=build_transform,
    find_image_deviation=find_image_deviation,
    crop_size=CROP_SIZE,
    capture_points=capture_points,
    find_deviation=find_deviation,
    exact=EXACT,
)
