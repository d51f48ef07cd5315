"""BEiT and BEiT v2: pretrained by masked image modeling, fine-tuned for classification, and with UPerNet."""
