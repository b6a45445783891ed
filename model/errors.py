"""Mistakes in data, models and registry that a person can mend: each message is one full sentence."""


class ModelError(Exception):
    """A data set, an artefact or a registry that cannot be used, and why, in one sentence."""
