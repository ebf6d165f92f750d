"""How fast run-spec is beside other ways to the same numbers, measured side by side."""
