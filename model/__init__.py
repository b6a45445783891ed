"""The trainer: labelled data in, an immutable, versioned model artefact with tuned thresholds out."""
