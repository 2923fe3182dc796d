"""What some mechanisms need measured on a model beforehand: one artefact per file, run by `designspace calibrate`."""
