"""Engines and the models in them."""
