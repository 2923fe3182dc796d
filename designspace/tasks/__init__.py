"""Problems, prompts, and how answers are graded."""

from designspace.tasks.problem import Problem
from designspace.tasks.task import Task, TaskRequest
from designspace.tasks.task_spec import TaskSpec

__all__ = ["Problem", "Task", "TaskRequest", "TaskSpec"]
