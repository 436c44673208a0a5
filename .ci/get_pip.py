# Copyright (c) 2026, the ephemeral.openai contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Install pip into a new virtual environment from what Python brings along.

ansible-test downloads a script for this from a host of its own; put into its cache, this one does without that host.
Arguments are pip's options and packages, such as pip==25.2.
"""

from __future__ import annotations

import subprocess
import sys

# Options of the script that this one stands in for; pip does not know them.
_NOT_OPTIONS_OF_PIP = ("--no-setuptools", "--no-wheel")

subprocess.check_call([sys.executable, "-m", "ensurepip", "--default-pip"])
arguments = [argument for argument in sys.argv[1:] if argument not in _NOT_OPTIONS_OF_PIP]
subprocess.check_call([sys.executable, "-m", "pip", "install", *arguments])  # noqa: S603
