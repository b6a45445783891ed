"""Mistakes at the command line or in the surroundings that a person can mend."""


class OpsError(Exception):
    """What went wrong and what to do about it, in one sentence."""
