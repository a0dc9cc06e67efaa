"""Whether a loaded model is the published one: expected numbers as data, and checks that measure them."""
