"""DINOv2 with a depth head: what training writes, for synthetic checkpoints."""

from conversion.families.training import Training, fan_in, normal

TRAINING = Training(
    distributions={
        "*.resize_layers.0.weight": fan_in(0),  # transposed: each output pixel sums over the input channels of one
        "*.resize_layers.1.weight": fan_in(0),
        "*.output_conv2.2.bias":    normal(0.1, mean=1.0),  # or much of the depth is cut off at 0
        "*.conv_depth.head.4.bias": normal(0.1, mean=1.0),
    }
)  # fmt: skip
