"""The libraries that metrics are held equal to."""

from __future__ import annotations

import warnings


def by_sklearn(function, *args, **options):
    """The result without the warnings about shares of nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function(*args, **options)
