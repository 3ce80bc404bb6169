"""Integer programs as plain C99."""
