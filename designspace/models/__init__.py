"""Model loading, calibration artefacts and the bundled pocket models."""
