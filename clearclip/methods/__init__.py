"""What the last block does instead of itself: recipes, affinities, and the encoder that runs them."""
