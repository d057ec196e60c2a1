"""Speaks to Keystone, with a token of our own."""
