"""Pages that are rendered once for all tests that read them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import page
import pytest
import synthetic_results

from reports.render import html


@cache
def rendered(kind: str) -> str:
    """Render the page of one kind of synthetic results."""
    return html(getattr(synthetic_results, kind)())


@pytest.fixture(scope="session")
def report() -> Callable[[str], str]:
    """Give the HTML of one kind of synthetic results: ``report("partial")``."""
    return rendered


@pytest.fixture(scope="session")
def read() -> Callable[[str], page.Page]:
    """Give the parsed page of one kind of synthetic results."""
    return cache(lambda kind: page.read(rendered(kind)))
