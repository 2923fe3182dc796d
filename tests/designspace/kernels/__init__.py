"""Kernels against the plain path. Where there is a compiler they must build: a kernel that does not is no reason to skip."""

import os
import shutil

HAS_COMPILER = shutil.which(os.environ.get("CC", "cc")) is not None
