"""What may be served, by the names that artefacts hold and by those that people read, the same everywhere."""

RULE, UPSTREAM = "upstream at 0.5", "upstream"  # without a network; any other is an architecture
TITLES = {RULE: "0.5 rule", UPSTREAM: "per-tag thresholds on upstream"}


def title(name: str) -> str:
    """What people call it."""
    return TITLES.get(name, f"network ({name})")
