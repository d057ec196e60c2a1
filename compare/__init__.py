"""Replays the same requests to a Glance and to imgservice, and tells where the answers differ."""
