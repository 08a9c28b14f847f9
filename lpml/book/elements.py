"""HTML as a tree of elements, so that whatever a text holds is escaped."""

import re
from typing import Any
from xml.etree import ElementTree

Element = ElementTree.Element
_MARKED = re.compile(r"`([^`]+)`|\*([^*\s](?:[^*]*[^*\s])?)\*")


def tag(name: str, /, *content: Element | str, **attributes: Any) -> Element:
    """An element; `class_` is the attribute class, and `data_label` is data-label."""
    words = {key.rstrip("_").replace("_", "-"): str(v) for key, v in attributes.items()}
    element = Element(name, words)
    for part in content:
        if isinstance(part, Element):
            element.append(part)
        elif len(element):
            element[-1].tail = (element[-1].tail or "") + part
        else:
            element.text = (element.text or "") + part
    return element


def prose(text: str, *, emphasis: bool = False) -> list[Element | str]:
    """A text with `code` (and, if asked for, *emphasis*) as elements."""
    parts: list[Element | str] = []
    end = 0
    for match in _MARKED.finditer(text):
        code, words = match.groups()
        if code is None and not emphasis:
            continue
        parts += [
            text[end : match.start()],
            tag("em", words) if code is None else tag("code", code),
        ]
        end = match.end()
    return [*parts, text[end:]]


def link(target: str, *content: Element | str) -> Element:
    """A link."""
    return tag("a", *content, href=target)


def as_html(root: Element) -> str:
    """The document as text, one block a line."""
    ElementTree.indent(root, space="")
    return "<!DOCTYPE html>\n" + ElementTree.tostring(root, "unicode", method="html") + "\n"
