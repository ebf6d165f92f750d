"""Tables of facts: read, chosen from, and written into the spec as ordinary entities and relations."""

from specs.language.data.inline import Import, import_data

__all__ = ["Import", "import_data"]
