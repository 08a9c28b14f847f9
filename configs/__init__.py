"""One experiment a file: `get_config(variant)` and, where it makes sense, `sweep()`."""
