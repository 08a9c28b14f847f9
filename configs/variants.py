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
    size, method = choices(variant, sizes, methods)
    return size or "default", method or (methods[0] if methods else None)


def choices(variant, *kinds):
    """The word of each kind that a variant names, None for a kind of which it names none.

    Args:
      variant: comma-separated words, at most one of each kind.
      kinds: tuples of the words there are.
    """
    words = [word for word in variant.split(",") if word]
    known = [word for kind in kinds for word in kind]
    for word in words:
        if word not in known:
            raise ValueError(f"there is no variant {word!r}; choose from {', '.join(known)}")
    chosen = [[word for word in words if word in kind] for kind in kinds]
    for kind in chosen:
        if len(kind) > 1 and len(set(kind)) == 1:
            raise ValueError(f"{kind[0]!r} is given {len(kind)} times; give it once")
        if len(kind) > 1:
            raise ValueError(f"it names both {kind[0]!r} and {kind[1]!r}; name one")
    return tuple(kind[0] if kind else None for kind in chosen)


def compared(methods, formats, in_few_bits=("shampoo", "adam"), seeds=(1, 2, 3)):
    """Points of a sweep over optimizers: each in full precision, some in few bits too.

    Args:
      methods: variants of the config.
      formats: of `model.quant`, by role.
      in_few_bits: those that are trained with them as well.
      seeds: of every point.
    """
    quant = {f"model.quant.{role}": name for role, name in formats.items()}
    for seed in seeds:
        for method in methods:
            yield {"variant": method, "seed": seed}
        for method in in_few_bits:
            yield {"variant": method, **quant, "seed": seed}
