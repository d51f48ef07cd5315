"""Data2Vec-Vision (BEiT): pretrained, fine-tuned for classification, and with UPerNet for segmentation."""
