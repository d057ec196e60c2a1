"""The JSON schemas that clients fetch, as data, and the checks that are compiled from them."""
