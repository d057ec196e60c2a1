"""Asks Keystone whose a token is."""
