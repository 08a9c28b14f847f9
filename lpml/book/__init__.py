"""The book of results: what is missing is run, what is finished becomes two pages."""

from lpml.book.making import DEFAULT_MINUTES, make

__all__ = ["DEFAULT_MINUTES", "make"]
