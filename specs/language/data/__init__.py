"""Tables of facts: read, chosen from, and written into the spec as ordinary entities and relations."""
