"""Data2Vec-Vision: BEiT's architecture, pretrained, fine-tuned for classification, and with UPerNet."""
