"""Units of size."""

MIB = 1 << 20
GIB = 1 << 30
