"""The store of objects in Swift."""
