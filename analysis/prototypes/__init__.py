"""Class prototypes: which feature map knows what is where, without text."""
