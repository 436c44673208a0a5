# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that these tests share; not in conftest, since several folders have a module of that name."""

from __future__ import annotations

PROJECT = "proj_conformance"
MARKER = "MarkerOfTheConformanceTests"
