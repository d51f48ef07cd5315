"""What each family of models says of itself: variants, specs, originals, key maps, ledgers."""
