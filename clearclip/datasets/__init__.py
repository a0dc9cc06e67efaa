"""Pictures with a class for every pixel: drawn scenes."""
