"""Problems, prompts, splits and grading."""
