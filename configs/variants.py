"""How the word after the colon of `--config=file.py:variant` is read."""


def parse(variant, sizes=("tiny", "default", "paper"), methods=()):
    """Splits a variant such as `tiny`, `svrg` or `svrg,tiny`.

    Args:
      variant: comma-separated words: at most one size and one method.
      sizes: sizes the config knows.
      methods: methods the config knows; the first is the default.

    Returns:
      (size, method); method is None where the config knows none.
    """
    size, method = "default", methods[0] if methods else None
    for word in filter(None, variant.split(",")):
        if word in sizes:
            size = word
        elif word in methods:
            method = word
        else:
            known = ", ".join((*sizes, *methods))
            raise ValueError(f"there is no variant {word!r}; choose from {known}")
    return size, method
