"""The tasks of RULER [hsieh2024ruler] whose texts can be made up, at any length.

The wording of a prompt, its answer prefix and what counts as right are those of the benchmark, for these are what makes
numbers comparable. The generators are written anew, and everything that fills a prompt is made up here: sentences of noise,
prose in the place of essays, coined words. Questions on third-party articles (`qa_1`, `qa_2`) are not among the tasks.
"""
