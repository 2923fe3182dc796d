"""A package of somebody else: a task with a grader of its own, a scoring, a representation; one file and one line each."""
