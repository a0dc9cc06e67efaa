"""Lists of recipes, published numbers, and how a sweep's Dataset is read."""
