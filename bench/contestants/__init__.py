"""The servers that are measured: one column of a table each."""
