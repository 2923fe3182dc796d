"""The problem browser: every arm's text of every problem of a results folder, in a web page on this machine."""

from designspace.view.index import Filter, Index
from designspace.view.server import ViewServer

__all__ = ["Filter", "Index", "ViewServer"]
